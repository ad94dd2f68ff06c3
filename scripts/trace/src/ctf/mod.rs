//! Writes the Common Trace Format, version 1.8: a directory with a `metadata` file and a stream file per CPU, for
//! babeltrace2, Trace Compass and other readers of LTTng traces.

mod metadata;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use kernel_abi::trace::Kind;

use super::error::Error;
use super::file::Header;
use super::merge::Event;
use super::places::{Places, has_code};
use super::shape::UNKNOWN;
use super::sink::Sink;

/// Maximum size of a packet in bytes.
const PACKET: usize = 64 * 1024;
/// Size of the packet header and packet context in bytes.
const HEAD: usize = 4 + 4 + 5 * 8 + 4;
/// Size of the largest event without a place in bytes: header, kind and two numbers.
const EVENT: usize = 2 + 8 + 2 + 8 + 8;

/// Writes a trace as a directory in the Common Trace Format.
pub struct Ctf {
    folder: PathBuf,
    streams: Vec<Stream>,
    places: Rc<Places>,
}

impl Ctf {
    /// Creates the directory and removes the stream files of any earlier trace in it.
    pub fn new(folder: &Path, header: &Header, places: Rc<Places>) -> Result<Ctf, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create the directory", folder))?;
        for entry in fs::read_dir(folder).map_err(Error::io("read the directory", folder))? {
            let path = entry.map_err(Error::io("read the directory", folder))?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(STREAM)) {
                // Another conversion into the same directory may have removed it first.
                fs::remove_file(&path)
                    .or_else(
                        |error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) },
                    )
                    .map_err(Error::io("remove", &path))?;
            }
        }
        let path = folder.join("metadata");
        output::write(&path, metadata::metadata(header, places.are_known()))
            .map_err(Error::io("write", &path))?;
        let stream =
            |cpu: &super::file::Cpu| Stream::new(folder.join(format!("{STREAM}{}", cpu.cpu)), cpu.cpu);
        Ok(Ctf { folder: folder.to_owned(), streams: header.cpus.iter().map(stream).collect(), places })
    }
}

/// The prefix of the stream files' names.
const STREAM: &str = "cpu_";

impl Sink for Ctf {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        let failed = |error| Error::Io(format!("cannot write {}", self.folder.display()), error);
        let has_place = self.places.are_known() && event.kind.is_some_and(has_code);
        let place = has_place.then(|| self.places.of(event).unwrap_or_default());
        self.streams[event.lane].event(event, place.as_deref()).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let failed = |error| Error::Io(format!("cannot write {}", self.folder.display()), error);
        self.streams.iter_mut().try_for_each(Stream::flush).map_err(failed)
    }
}

/// The stream file of one CPU, and its current packet. A CPU without events gets no file.
struct Stream {
    path: PathBuf,
    file: Option<File>,
    cpu: u32,
    packet: Vec<u8>,
    begin: u64,
    end: u64,
    discarded: u64,
}

impl Stream {
    fn new(path: PathBuf, cpu: u32) -> Stream {
        Stream { path, file: None, cpu, packet: Vec::new(), begin: 0, end: 0, discarded: 0 }
    }

    /// Adds an event, and the name of the code at its address if events of its kind have one.
    fn event(&mut self, event: &Event, place: Option<&str>) -> io::Result<()> {
        let size = EVENT + place.map_or(0, |place| place.len() + 1);
        if self.packet.len() + size > PACKET {
            self.flush()?;
        }
        if self.packet.is_empty() {
            // The header is filled in when the packet is written.
            self.packet.resize(HEAD, 0);
            self.begin = event.ns;
        }
        self.end = event.ns;
        if event.kind == Some(Kind::Dropped) {
            self.discarded = self.discarded.saturating_add(event.record.a);
        }
        let packet = &mut self.packet;
        packet.extend(event.kind.map_or(metadata::UNKNOWN_ID, |kind| kind as u16).to_le_bytes());
        packet.extend(event.ns.to_le_bytes());
        if event.kind.is_none() {
            packet.extend(event.record.kind.to_le_bytes());
        }
        let fields = event.kind.map_or(UNKNOWN, Kind::fields);
        for (field, value) in fields.into_iter().zip([event.record.a, event.record.b]) {
            if field.is_some() {
                packet.extend(value.to_le_bytes());
            }
        }
        if let Some(place) = place {
            packet.extend(place.bytes().filter(|byte| *byte != 0));
            packet.push(0);
        }
        Ok(())
    }

    /// Writes the current packet to the file.
    fn flush(&mut self) -> io::Result<()> {
        if self.packet.is_empty() {
            return Ok(());
        }
        let bits = self.packet.len() as u64 * 8;
        let mut head = Vec::with_capacity(HEAD);
        head.extend(metadata::MAGIC.to_le_bytes());
        head.extend(0u32.to_le_bytes());
        for word in [self.begin, self.end, bits, bits, self.discarded] {
            head.extend(word.to_le_bytes());
        }
        head.extend(self.cpu.to_le_bytes());
        self.packet[..HEAD].copy_from_slice(&head);
        if self.file.is_none() {
            self.file = Some(output::create(&self.path)?);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.packet)?;
        }
        self.packet.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kernel_abi::trace::Record;

    use super::*;
    use crate::file::Cpu;

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("there must be 8 bytes"))
    }

    #[test]
    fn packets_are_contiguous_and_count_dropped_records() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        std::fs::write(folder.path().join("cpu_77"), "of an earlier trace").expect("cannot write");
        let cpu = |cpu| Cpu { cpu, ..Cpu::default() };
        let header = Header { cpus: vec![cpu(0), cpu(1)], ..Header::default() };
        let mut ctf = Ctf::new(folder.path(), &header, Rc::default()).expect("cannot begin");
        let mut put = |ns, kind: Kind, a| {
            let record = Record { a, kind: kind as u16, ..Record::default() };
            ctf.event(&Event { ns, lane: 1, kind: Some(kind), record }).expect("cannot write the event");
        };
        put(5, Kind::Dropped, 3);
        for ns in 0..4000 {
            put(10 + ns, Kind::Tick, ns);
        }
        ctf.finish().expect("cannot finish");
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .expect("cannot list")
            .map(|entry| {
                entry.expect("cannot read the directory").file_name().into_string().expect("invalid UTF-8")
            })
            .collect();
        names.sort();
        assert_eq!(names, ["cpu_1", "metadata"], "no file for a CPU without events");
        let bytes = std::fs::read(folder.path().join("cpu_1")).expect("cannot read");
        let (mut at, mut begin) = (0, 5);
        while at < bytes.len() {
            assert_eq!(bytes[at..at + 4], metadata::MAGIC.to_le_bytes());
            assert_eq!(word(&bytes, at + 8), begin);
            assert_eq!(word(&bytes, at + 40), 3, "discarded events up to here");
            begin = word(&bytes, at + 16) + 1;
            at += word(&bytes, at + 32) as usize / 8;
        }
        assert_eq!((at, begin), (bytes.len(), 4010));
        // The first event follows the packet header.
        assert_eq!(bytes[HEAD..HEAD + 2], [Kind::Dropped as u8, 0]);
        assert_eq!(word(&bytes, HEAD + 2), 5);
    }

    #[test]
    fn place_follows_the_values() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let header = Header { cpus: vec![Cpu::default()], ..Header::default() };
        let places = Places::new(Some(Box::new(|address| (address == 7).then(|| "f (a.c:3)".to_owned()))));
        let mut ctf = Ctf::new(folder.path(), &header, Rc::new(places)).expect("cannot begin");
        for rip in [7, 8] {
            let record = Record { a: 1, b: rip, kind: Kind::Tick as u16, ..Record::default() };
            ctf.event(&Event { ns: 5, lane: 0, kind: Some(Kind::Tick), record })
                .expect("cannot write the event");
        }
        ctf.finish().expect("cannot finish");
        let bytes = std::fs::read(folder.path().join("cpu_0")).expect("cannot read");
        assert_eq!(bytes[HEAD + 18..HEAD + 36], *b"\x07\0\0\0\0\0\0\0f (a.c:3)\0");
        assert_eq!(bytes[HEAD + 36 + 18..], *b"\x08\0\0\0\0\0\0\0\0", "unknown");
        let text = std::fs::read_to_string(folder.path().join("metadata")).expect("cannot read");
        assert_eq!(
            text.matches("string _place;").count(),
            Kind::ALL.into_iter().filter(|kind| has_code(*kind)).count()
        );
    }
}
