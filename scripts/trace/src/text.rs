//! Text output, one line per event: `[seconds.nanoseconds] cpuK kind name=value name=value`.

use std::io::{self, Write};
use std::rc::Rc;

use super::error::Error;
use super::file::Header;
use super::merge::Event;
use super::places::Places;
use super::shape::Placed;
use super::sink::Sink;

/// Writes events as lines of text.
pub struct Text<W> {
    to: W,
    /// The label of each CPU, by index in the header.
    cpus: Vec<String>,
    name: String,
    places: Rc<Places>,
    /// The buffer for the current line.
    line: Vec<u8>,
}

impl<W: Write> Text<W> {
    /// Creates a writer to `to`. Error messages call the output `name`.
    pub fn new(to: W, name: String, header: &Header, places: Rc<Places>) -> Text<W> {
        // All labels have the same width, so that the columns to their right are aligned.
        let width = header.cpus.iter().map(|cpu| cpu.cpu.to_string().len()).max().unwrap_or(0);
        let cpus = header.cpus.iter().map(|cpu| format!("cpu{:<width$}", cpu.cpu)).collect();
        Text { to, cpus, name, places, line: Vec::new() }
    }

    fn line(&mut self, event: &Event) -> io::Result<()> {
        const GIGA: u64 = 1_000_000_000;
        let Event { ns, record, .. } = event;
        let line = &mut self.line;
        line.clear();
        let cpu = &self.cpus[event.lane];
        let place = self.places.of(event);
        let described = Placed(record, place.as_deref());
        writeln!(line, "[{:6}.{:09}] {cpu} {described}", ns / GIGA, ns % GIGA)?;
        self.to.write_all(line)
    }
}

impl<W: Write> Sink for Text<W> {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        self.line(event).map_err(|error| Error::Io(format!("cannot write {}", self.name), error))
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.to.flush().map_err(|error| Error::Io(format!("cannot write {}", self.name), error))
    }
}

#[cfg(test)]
mod tests {
    use kernel_abi::trace::{Kind, Record};

    use super::*;
    use crate::file::Cpu;

    #[test]
    fn lines_are_aligned_and_name_their_numbers() {
        let cpu = |cpu| Cpu { cpu, ..Cpu::default() };
        let header = Header { cpus: vec![cpu(0), cpu(10)], ..Header::default() };
        let mut bytes = Vec::new();
        let places = Places::new(Some(Box::new(|address| (address == 0x10).then(|| "f (a.c:3)".to_owned()))));
        let mut text = Text::new(&mut bytes, "a buffer".to_owned(), &header, Rc::new(places));
        let mut put = |ns, lane, kind: u16, a, b| {
            let record = Record { a, b, kind, ..Record::default() };
            let event = Event { ns, lane, kind: Kind::from_number(kind), record };
            text.event(&event).expect("cannot write the event");
        };
        put(1_000_000_005, 0, Kind::SyscallExit as u16, 1, (-14i64).cast_unsigned());
        put(1_000_000_006, 1, Kind::IdleIn as u16, 0, 0);
        put(1_000_000_007, 0, Kind::Tick as u16, 1, 0x10);
        put(1_000_000_008, 0, Kind::ProgramStart as u16, 0x10, 0x20);
        put(12_345_678_901, 1, 99, 1, 2);
        assert_eq!(
            String::from_utf8(bytes).expect("invalid UTF-8"),
            "[     1.000000005] cpu0  syscall_exit number=SYS_WRITE_SERIAL result=-EFAULT\n\
             [     1.000000006] cpu10 idle_in\n\
             [     1.000000007] cpu0  tick ticks=1 rip=0x10 in f (a.c:3)\n\
             [     1.000000008] cpu0  program_start entry=0x10 in f (a.c:3) stack=0x20\n\
             [    12.345678901] cpu10 kind_99 a=0x1 b=0x2\n"
        );
    }
}
