//! Finds the rings in a guest's memory, and reads records from one.

use std::io;

use bytemuck::{Zeroable, bytes_of_mut, cast_slice_mut};
use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader, reading};

use super::guest_ram::GuestRam;
use crate::error::{Error, Flaw};
use crate::file::{Cpu, Header, Mode};
use crate::layout::{RECORD, RING_HEADER, TAIL};

/// More CPUs than QEMU supports in any machine.
pub const CPUS_MAX: u32 = 8192;
const PAGE: u64 = 4096;
/// A CPU that stops leaves fewer unfinished records than this: one, and those of an NMI handler.
const UNFINISHED_MAX: u64 = 8;
/// Only the latest records can be unfinished: a CPU is writing one, and perhaps those of an NMI handler. A record with this
/// number of records after it is finished.
const LATEST: u64 = 64;

/// A valid directory: all its rings are in the guest's memory.
#[derive(Clone, Debug)]
pub struct Rings {
    page: u64,
    directory: Directory,
}

impl Rings {
    /// Searches all of the guest's memory for a directory.
    pub fn find(ram: &GuestRam) -> Result<Rings, Error> {
        let mut flawed = None;
        // The kernel's own constant may happen to be at the start of a page. It is then found too, as an invalid directory.
        for page in ram.pages_with(&MAGIC).map_err(failed)? {
            match Rings::at(ram, page) {
                Ok(Some(rings)) => return Ok(rings),
                Ok(None) => {}
                Err(error @ Error::BadDirectory { .. }) => flawed = flawed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(flawed.unwrap_or(Error::NoDirectory))
    }

    /// Reads the directory in a page; `None` if there is none. It is read again here, after the search saw the magic: the
    /// kernel writes the magic last, so only a read after that is sure to get the complete directory.
    pub fn at(ram: &GuestRam, page: u64) -> Result<Option<Rings>, Error> {
        let mut directory = Directory::zeroed();
        ram.read(page, bytes_of_mut(&mut directory)).map_err(failed)?;
        if directory.magic != MAGIC {
            return Ok(None);
        }
        match check(&directory, page, ram) {
            Ok(()) => Ok(Some(Rings { page, directory })),
            Err(flaw) => Err(Error::BadDirectory { page, flaw }),
        }
    }

    /// Reads the directory again: the kernel writes the TSC's frequency only after it has measured it. The rings
    /// themselves do not move; if the new directory describes other rings or is invalid, the old one is kept.
    pub fn refreshed(self, ram: &GuestRam) -> Result<Rings, Error> {
        let same = |new: &Rings| {
            let (new, old) = (&new.directory, &self.directory);
            (new.cpus, new.capacity, new.first_ring, new.ring_stride)
                == (old.cpus, old.capacity, old.first_ring, old.ring_stride)
        };
        match Rings::at(ram, self.page) {
            Ok(Some(new)) if same(&new) => Ok(new),
            Ok(_) | Err(Error::BadDirectory { .. }) => Ok(self),
            Err(error) => Err(error),
        }
    }

    /// Iterates over the rings, in the order of the CPU list.
    pub fn rings(&self) -> impl Iterator<Item = Ring> + use<> {
        let Directory { cpus, capacity, first_ring, ring_stride, mode, .. } = self.directory;
        (0..cpus).map(move |cpu| Ring {
            cpu,
            stream: mode == 1,
            // These do not overflow: `check` has computed the same values.
            at: first_ring + u64::from(cpu) * ring_stride,
            capacity: u64::from(capacity),
        })
    }

    /// Builds the trace file's header. The caller provides the command line and the CPUs' entries.
    pub fn header(&self, command: &[String], cpus: Vec<Cpu>) -> Header {
        Header {
            tsc_hz: self.directory.tsc_hz,
            boot_tsc: self.directory.boot_tsc,
            kinds: Header::kind_names(self.directory.kinds),
            mode: if self.directory.mode == 0 { Mode::Flight } else { Mode::Stream },
            cpus,
            command: command.to_vec(),
        }
    }
}

/// Checks that a directory is valid.
fn check(directory: &Directory, page: u64, ram: &GuestRam) -> Result<(), Flaw> {
    let Directory { cpus, capacity, first_ring, ring_stride, mode, .. } = *directory;
    if cpus == 0 || cpus > CPUS_MAX {
        return Err(Flaw::Cpus(cpus));
    }
    if !capacity.is_power_of_two() {
        return Err(Flaw::Capacity(capacity));
    }
    if let Some(value) = [first_ring, ring_stride].into_iter().find(|value| !value.is_multiple_of(64)) {
        return Err(Flaw::Alignment(value));
    }
    let length = (RING_HEADER + RECORD * capacity as usize) as u64;
    if ring_stride < length {
        return Err(Flaw::Stride(ring_stride));
    }
    if mode > 1 {
        return Err(Flaw::Mode(mode));
    }
    for cpu in 0..cpus {
        let at = ring_stride.checked_mul(u64::from(cpu)).and_then(|offset| first_ring.checked_add(offset));
        let at = at.filter(|at| ram.offset(*at, length).is_some()).ok_or(Flaw::Outside(cpu))?;
        if at < page + PAGE && page < at + length {
            return Err(Flaw::Overlap(cpu));
        }
    }
    Ok(())
}

/// One CPU's ring.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Index of the CPU in the CPU list.
    pub cpu: u32,
    stream: bool,
    at: u64,
    capacity: u64,
}

/// The result of one read of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadResult {
    /// The position at which to continue.
    pub next: u64,
    /// The ring's head at the start of the read.
    pub head: u64,
    /// Number of records that were begun and never finished.
    pub torn: u64,
    /// Number of records that were overwritten before they were read.
    pub overwritten: u64,
    /// The head is less than before, so it is not valid any more, and nothing was read.
    pub head_decreased: bool,
}

/// The totals of all reads of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    torn: u64,
    overwritten: u64,
    head_decreased: bool,
}

impl Totals {
    /// Adds the result of a read.
    pub fn add(&mut self, result: &ReadResult) {
        self.torn = self.torn.saturating_add(result.torn);
        self.overwritten = self.overwritten.saturating_add(result.overwritten);
        self.head_decreased |= result.head_decreased;
    }
}

/// The buffer for the records of one read.
#[derive(Debug)]
pub struct Buffer(Box<[Record]>);

impl Buffer {
    /// Number of records in the buffer. They fit into a core's private cache while they are checked, copied and written.
    const CAPACITY: usize = 2048;

    /// Allocates the buffer.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new() -> Result<Buffer, Error> {
        let full = |()| Error::Io("cannot read the trace".to_owned(), io::ErrorKind::OutOfMemory.into());
        bytemuck::allocation::try_zeroed_slice_box(Buffer::CAPACITY).map(Buffer).map_err(full)
    }
}

impl Ring {
    /// Reads the ring's header.
    pub fn header(&self, ram: &GuestRam) -> Result<RingHeader, Error> {
        let mut header = RingHeader::zeroed();
        ram.read(self.at, bytes_of_mut(&mut header)).map_err(failed)?;
        Ok(header)
    }

    /// Returns the CPU's entry for the trace file's header. Must be called after the last read.
    pub fn describe(&self, ram: &GuestRam, totals: Totals) -> Result<Cpu, Error> {
        let Totals { torn, overwritten, .. } = totals;
        let RingHeader { apic_id, tsc_offset, dropped, .. } = self.header(ram)?;
        let damaged = self.damage(ram, totals)?;
        Ok(Cpu { cpu: self.cpu, apic_id, tsc_offset, dropped, torn, overwritten, damaged, ..Cpu::default() })
    }

    /// Returns why the ring's header is not valid, if it is not.
    fn damage(&self, ram: &GuestRam, totals: Totals) -> Result<Option<String>, Error> {
        let RingHeader { head, cpu, .. } = self.header(ram)?;
        // The header of a CPU that never came online may be empty.
        if head != 0 && cpu != self.cpu {
            return Ok(Some(format!("its header names CPU {cpu}")));
        }
        // In a stream the kernel does not overwrite records that the host has not read.
        if totals.torn > UNFINISHED_MAX || (self.stream && totals.overwritten != 0) {
            return Ok(Some("its head is not at the end of its records".to_owned()));
        }
        let mut after = [Record::default()];
        self.read(ram, head, &mut after)?;
        let written = after[0].sequence != 0 && reading::ahead(&after[0], head) == 0;
        // The CPU reserves a position before it writes there: if it is still running, its head has moved.
        let head_decreased = totals.head_decreased || (written && self.header(ram)?.head == head);
        Ok(head_decreased.then(|| "its head decreased".to_owned()))
    }

    /// Returns the record before the head, if it is finished.
    pub fn last(&self, ram: &GuestRam) -> Result<Option<Record>, Error> {
        let Some(last) = self.header(ram)?.head.checked_sub(1) else { return Ok(None) };
        let mut record = [Record::default()];
        self.read(ram, last, &mut record)?;
        Ok((reading::ahead(&record[0], last) == 0).then_some(record[0]))
    }

    /// Publishes to the kernel that the records before position `next` have been read.
    pub fn publish_tail(&self, ram: &GuestRam, next: u64) -> Result<(), Error> {
        ram.write_u64(self.at + TAIL, next).map_err(failed)
    }

    /// Reads records from position `from` on, at most as many as the buffer takes, and passes the complete ones to `each`.
    ///
    /// Works while the CPU writes. The kernel writes a record's sequence number last, but copying memory has no defined
    /// order. So a first copy of the latest positions only finds which records are finished, and a second copy reads them.
    /// Finally `head` shows which positions were reused meanwhile. With `last`, the CPU has stopped writing: a record that
    /// is unfinished will never be finished, so it is counted as torn and skipped. Otherwise the batch ends before it.
    pub fn read_records(
        &self,
        ram: &GuestRam,
        from: u64,
        last: bool,
        buffer: &mut Buffer,
        each: &mut impl FnMut(&[Record]) -> Result<(), Error>,
    ) -> Result<ReadResult, Error> {
        let head = self.header(ram)?.head;
        let start = from.max(head.saturating_sub(self.capacity));
        let mut result = ReadResult { next: start, head, overwritten: start - from, ..ReadResult::default() };
        if head <= start {
            result.head_decreased = head < from;
            return Ok(result);
        }
        let mut count = (head - start).min(Buffer::CAPACITY as u64);
        if !last {
            let old = head.saturating_sub(LATEST).clamp(start, start + count) - start;
            let latest = &mut buffer.0[old as usize..count as usize];
            self.read(ram, start + old, latest)?;
            count = old + reading::written(latest, start + old) as u64;
        }
        let records = &mut buffer.0[..count as usize];
        self.read(ram, start, records)?;
        let reused = self.header(ram)?.head.saturating_sub(self.capacity);
        let overwritten = reused.saturating_sub(start).min(count);
        result.overwritten += overwritten;
        result.next += overwritten;
        loop {
            let rest = &records[(result.next - start) as usize..];
            let own = reading::own(rest, result.next);
            each(&rest[..own])?;
            result.next += own as u64;
            match rest.get(own) {
                None => break,
                Some(record) if !last && reading::ahead(record, result.next) < 0 => break,
                Some(_) => {}
            }
            result.torn += 1;
            result.next += 1;
        }
        Ok(result)
    }

    /// Reads the records from position `start` on, with wrap-around at the ring's end.
    fn read(&self, ram: &GuestRam, start: u64, records: &mut [Record]) -> Result<(), Error> {
        let first = start % self.capacity;
        let (head, tail) = records.split_at_mut(((self.capacity - first) as usize).min(records.len()));
        let base = self.at + RING_HEADER as u64;
        ram.read(base + first * RECORD as u64, cast_slice_mut(head)).map_err(failed)?;
        ram.read(base, cast_slice_mut(tail)).map_err(failed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::Io("cannot access the guest's memory".to_owned(), error)
}
