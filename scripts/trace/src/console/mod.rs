//! Reassembles a trace from the lines in which it was sent over a console ([`kernel_abi::trace::serial`]).
//!
//! Each line can be decoded independently, so every intact line is used. Line numbers show which lines are missing, and
//! positions show which records are missing. A trace without its last line is truncated.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytemuck::try_pod_read_unaligned;
use kernel_abi::trace::reading::ahead;
use kernel_abi::trace::serial::{self, DATA_MAX, Part, Place};
use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader};

use super::capture::{CPUS_MAX, Summary};
use super::error::Error;
use super::file::{self, Cpu, Header, Mode, Writer};
use super::input;
use super::layout::RECORD;

/// Longer lines are split at this length, in bytes. No part of such a line is a valid trace line.
const LINE_MAX: u64 = 64 * 1024;

/// The part of a trace that has been received.
#[derive(Clone, Debug, Default)]
pub struct Console {
    directory: Option<Directory>,
    rings: BTreeMap<u32, Lane>,
    /// Number of intact lines.
    intact: u64,
    /// The number of the next line.
    next: u32,
    /// Number of lines that begin like a trace line but are damaged.
    damaged: u64,
    /// Number of missing lines, according to the line numbers.
    missing: u64,
    ended: bool,
}

/// The part of one CPU's ring that has been received.
#[derive(Clone, Debug, Default)]
struct Lane {
    header: Option<RingHeader>,
    /// The position of the first record sent.
    first: u64,
    /// The position of the next record expected.
    next: u64,
    records: Vec<Record>,
    lost: u64,
    torn: u64,
    overwritten: u64,
}

impl Console {
    /// Processes a console line, without its newline. Returns false if it is not a trace line.
    pub fn take(&mut self, line: &[u8]) -> bool {
        match serial::parse(line) {
            None => return false,
            Some(Ok(received)) if self.put(received.place, received.data()).is_some() => {}
            Some(_) => self.damaged += 1,
        }
        true
    }

    /// Adds the contents of a line. Returns `None` if they are invalid.
    fn put(&mut self, place: Place, data: &[u8]) -> Option<()> {
        if place.cpu >= CPUS_MAX || data.len() > DATA_MAX {
            return None;
        }
        if place.part == Part::Start || place.line.saturating_add(1) < self.next {
            // This is another boot on the same console. Keep only the latest one.
            *self = Console::default();
        }
        if place.line < self.next {
            // Ignore a repeated line. The logs of some terminals contain such lines.
            return Some(());
        }
        match place.part {
            Part::Start | Part::End => {
                let directory = try_pod_read_unaligned::<Directory>(data).ok()?;
                self.directory = Some(directory).filter(|directory| directory.magic == MAGIC);
                self.directory?;
                self.ended = place.part == Part::End;
            }
            Part::Ring => {
                let header = try_pod_read_unaligned::<RingHeader>(data).ok()?;
                let lane = Lane { header: Some(header), first: place.at, next: place.at, ..Lane::default() };
                self.rings.insert(place.cpu, lane);
            }
            Part::Records => {
                let (records, []) = data.as_chunks::<RECORD>() else { return None };
                let lane = self.rings.entry(place.cpu).or_insert_with(|| Lane::without_header(place.at));
                lane.put(place.at, records)?;
            }
        }
        self.intact += 1;
        self.missing += u64::from(place.line - self.next);
        self.next = place.line.saturating_add(1);
        Some(())
    }

    /// Returns whether no trace line was received.
    pub fn is_empty(&self) -> bool {
        self.intact == 0
    }

    /// Returns the defects of the trace in complete sentences. Empty if no trace line was received.
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        let lines = |count: u64| match count {
            1 => "1 line of the trace is".to_owned(),
            _ => format!("{count} lines of the trace are"),
        };
        if self.damaged != 0 {
            flaws.push(format!("{} damaged", lines(self.damaged)));
        }
        if self.missing != 0 {
            flaws.push(format!("{} missing", lines(self.missing)));
        }
        if (!self.is_empty() || self.damaged != 0) && !self.ended {
            flaws.push("the trace is truncated: its last line is missing".to_owned());
        }
        flaws
    }

    /// Writes the received records to a trace file. `command` is the run's command line, for the file header.
    ///
    /// # Errors
    /// [`Error::NoLines`] if nothing was received, or an error if the file cannot be written.
    pub fn write(&self, path: &Path, command: &[String]) -> Result<Summary, Error> {
        if self.is_empty() {
            return Err(Error::NoLines);
        }
        let expected = self.directory.map_or(0, |directory| directory.cpus.min(CPUS_MAX));
        let received = self.rings.last_key_value().map_or(0, |(cpu, _)| cpu + 1);
        let empty = Lane::default();
        let lanes: Vec<_> =
            (0..expected.max(received)).map(|cpu| (cpu, self.rings.get(&cpu).unwrap_or(&empty))).collect();
        let mut writer = Writer::create(path, lanes.len())?;
        for (n, (_, lane)) in lanes.iter().enumerate() {
            writer.append(n, &lane.records)?;
        }
        let cpus = lanes.iter().map(|(cpu, lane)| lane.describe(*cpu)).collect();
        let header = writer.finish(self.header(command, cpus))?;
        Ok(Summary { path: path.to_owned(), header, drained: Duration::ZERO })
    }

    /// Builds the file header. Without a directory the times are ticks.
    fn header(&self, command: &[String], cpus: Vec<Cpu>) -> Header {
        let mut header = Header { cpus, command: command.to_vec(), ..Header::default() };
        if let Some(directory) = &self.directory {
            (header.tsc_hz, header.boot_tsc) = (directory.tsc_hz, directory.boot_tsc);
            header.kinds = Header::kind_names(directory.kinds);
            header.mode = if directory.mode == 0 { Mode::Flight } else { Mode::Stream };
        }
        header
    }
}

impl Lane {
    /// Creates a ring whose header was not received.
    fn without_header(at: u64) -> Lane {
        Lane { first: at, next: at, ..Lane::default() }
    }

    fn put(&mut self, at: u64, records: &[[u8; RECORD]]) -> Option<()> {
        let next = at.checked_add(records.len() as u64)?;
        self.lost = self.lost.saturating_add(at.checked_sub(self.next)?);
        for (place, bytes) in (at..next).zip(records) {
            let record = try_pod_read_unaligned::<Record>(bytes).ok()?;
            match ahead(&record, place) {
                0 => self.records.push(record),
                // The CPU overwrote the record while its ring was being sent.
                1.. => self.overwritten += 1,
                _ => self.torn += 1,
            }
        }
        self.next = next;
        Some(())
    }

    fn describe(&self, cpu: u32) -> Cpu {
        let header = self.header.unwrap_or_default();
        Cpu {
            cpu,
            apic_id: header.apic_id,
            tsc_offset: header.tsc_offset,
            dropped: header.dropped,
            overwritten: self.first.saturating_add(self.overwritten),
            torn: self.torn,
            lost: self.lost.saturating_add(header.head.saturating_sub(self.next)),
            ..Cpu::default()
        }
    }
}

/// Returns the trace file for a file named by the user. If that file is a console log, writes a trace file next to it
/// and returns that, together with the defects of the log.
///
/// # Errors
/// If the file cannot be read, or contains no trace.
pub fn trace_file(path: &Path) -> Result<(PathBuf, Option<Error>), Error> {
    let failed = || Error::io("read", path);
    let mut file = BufReader::new(input::open(path).map_err(failed())?);
    if file.fill_buf().map_err(failed())?.starts_with(&file::MAGIC) {
        return Ok((path.to_owned(), None));
    }
    let to = path.with_extension("rtrace");
    let mut console = Console::default();
    let mut line = Vec::new();
    while file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(failed())? != 0 {
        console.take(line.trim_ascii_end());
        line.clear();
    }
    if console.is_empty() || to == path {
        return Err(Error::NotATrace(path.to_owned()));
    }
    console.write(&to, &[])?;
    let flaws = console.flaws();
    Ok((to, (!flaws.is_empty()).then(|| Error::Incomplete { path: path.to_owned(), flaws })))
}

#[cfg(test)]
mod tests;
