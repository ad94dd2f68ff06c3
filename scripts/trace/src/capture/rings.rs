//! Finds the rings in guest memory, and reads records from a ring.

use std::io;

use bytemuck::{Zeroable, bytes_of_mut, cast_slice_mut};
use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader, reading};

use super::guest_ram::GuestRam;
use crate::error::{Error, Flaw};
use crate::file::{Cpu, Header, Mode};
use crate::layout::{RECORD, RING_HEADER, TAIL};

/// An upper limit on the number of CPUs, higher than any QEMU machine type supports.
pub const CPUS_MAX: u32 = 8192;
const PAGE: u64 = 4096;
/// A CPU that has stopped leaves at most this many unfinished records: one of its own, and those of an NMI handler.
const UNFINISHED_MAX: u64 = 8;
/// Only the latest records can be unfinished: the one that a CPU is writing, and possibly those of an NMI handler. A
/// record followed by this number of records is finished.
const LATEST: u64 = 64;

/// A valid directory, whose rings all lie in guest memory.
#[derive(Clone, Debug)]
pub struct Rings {
    page: u64,
    directory: Directory,
}

impl Rings {
    /// Searches the entire guest memory for a directory.
    pub fn find(ram: &GuestRam) -> Result<Rings, Error> {
        let mut flawed = None;
        // The constant in the kernel image may happen to be at the start of a page. The search then finds it too, but
        // it is not a valid directory.
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

    /// Reads the directory in a page. Returns `None` if there is none. The page must be read after the search has seen
    /// the magic: the kernel writes the magic last, so only a later read is certain to return the complete directory.
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

    /// Reads the directory again, because the kernel writes the TSC frequency only after it has measured it. The rings
    /// do not move. If the new directory is invalid or describes other rings, the old one is kept.
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

    /// Iterates over the rings in the order of the CPU list.
    pub fn rings(&self) -> impl Iterator<Item = Ring> + use<> {
        let Directory { cpus, capacity, first_ring, ring_stride, mode, .. } = self.directory;
        (0..cpus).map(move |cpu| Ring {
            cpu,
            stream: mode == 1,
            // No overflow is possible: `check` has computed the same values.
            at: first_ring + u64::from(cpu) * ring_stride,
            capacity: u64::from(capacity),
        })
    }

    /// Builds the header of the trace file from the command line, the CPUs' entries and the directory.
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
    /// The ring's head when the read started.
    pub head: u64,
    /// Number of records that were started but never finished.
    pub torn: u64,
    /// Number of records that were overwritten before they were read.
    pub overwritten: u64,
    /// The head is lower than before, so it is invalid, and nothing was read.
    pub head_decreased: bool,
}

/// Totals over all reads of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    torn: u64,
    overwritten: u64,
    head_decreased: bool,
}

impl Totals {
    /// Adds the result of one read.
    pub fn add(&mut self, result: &ReadResult) {
        self.torn = self.torn.saturating_add(result.torn);
        self.overwritten = self.overwritten.saturating_add(result.overwritten);
        self.head_decreased |= result.head_decreased;
    }
}

/// A buffer for the records of one read.
#[derive(Debug)]
pub struct Buffer(Box<[Record]>);

impl Buffer {
    /// Number of records in the buffer. They fit in a core's private cache while they are checked, copied and written.
    const CAPACITY: usize = 2048;

    /// Allocates the buffer.
    ///
    /// # Errors
    /// If the host has too little memory.
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

    /// Returns the CPU's entry for the header of the trace file. Call it after the last read.
    pub fn describe(&self, ram: &GuestRam, totals: Totals) -> Result<Cpu, Error> {
        let Totals { torn, overwritten, .. } = totals;
        let RingHeader { apic_id, tsc_offset, dropped, .. } = self.header(ram)?;
        let damaged = self.damage(ram, totals)?;
        Ok(Cpu { cpu: self.cpu, apic_id, tsc_offset, dropped, torn, overwritten, damaged, ..Cpu::default() })
    }

    /// If the ring's header is invalid, returns the reason.
    fn damage(&self, ram: &GuestRam, totals: Totals) -> Result<Option<String>, Error> {
        let RingHeader { head, cpu, .. } = self.header(ram)?;
        // The header of a CPU that never came online may be empty.
        if head != 0 && cpu != self.cpu {
            return Ok(Some(format!("its header names CPU {cpu}")));
        }
        // In stream mode the kernel never overwrites records that the host has not read.
        if totals.torn > UNFINISHED_MAX || (self.stream && totals.overwritten != 0) {
            return Ok(Some("its head is not at the end of its records".to_owned()));
        }
        let mut after = [Record::default()];
        self.read(ram, head, &mut after)?;
        let written = after[0].sequence != 0 && reading::ahead(&after[0], head) == 0;
        // The CPU reserves a position before it writes there. If the CPU is still running, its head has moved.
        let head_decreased = totals.head_decreased || (written && self.header(ram)?.head == head);
        Ok(head_decreased.then(|| "its head decreased".to_owned()))
    }

    /// Returns the record before the head, if that record is finished.
    pub fn last(&self, ram: &GuestRam) -> Result<Option<Record>, Error> {
        let Some(last) = self.header(ram)?.head.checked_sub(1) else { return Ok(None) };
        let mut record = [Record::default()];
        self.read(ram, last, &mut record)?;
        Ok((reading::ahead(&record[0], last) == 0).then_some(record[0]))
    }

    /// Writes the ring's tail. The kernel may then overwrite the records before position `next`.
    pub fn publish_tail(&self, ram: &GuestRam, next: u64) -> Result<(), Error> {
        ram.write_u64(self.at + TAIL, next).map_err(failed)
    }

    /// Reads records from position `from` on, at most as many as fit in the buffer, and passes the complete ones to
    /// `each`.
    ///
    /// This works while the CPU writes. The kernel writes the sequence number of a record last, but a memory copy has
    /// no defined order. A first copy of the latest positions therefore only finds which records are finished, and a
    /// second copy reads them. Finally, `head` shows which positions were reused during the copy. With `last`, the CPU
    /// has stopped writing, so an unfinished record will never be finished: it is counted as torn and skipped. Without
    /// `last`, the batch ends before an unfinished record.
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
            let matching = reading::matching(rest, result.next);
            each(&rest[..matching])?;
            result.next += matching as u64;
            match rest.get(matching) {
                None => break,
                Some(record) if !last && reading::ahead(record, result.next) < 0 => break,
                Some(_) => {}
            }
            result.torn += 1;
            result.next += 1;
        }
        Ok(result)
    }

    /// Reads the records from position `start` on, and wraps around at the end of the ring.
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
