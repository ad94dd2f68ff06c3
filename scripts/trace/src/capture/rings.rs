//! Finding the rings in a guest's memory, and taking records out of one.

use std::io;

use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader, reading};
use zerocopy::{FromZeros, IntoBytes};

use super::guest_ram::GuestRam;
use crate::error::{Error, Flaw};
use crate::file::{Cpu, Header, Mode};
use crate::layout::{RECORD, RING_HEADER, TAIL};

/// More CPUs than any machine has that QEMU makes.
pub const CPUS_MAX: u32 = 8192;
const PAGE: u64 = 4096;
/// A CPU leaves less records than that unfinished when it stops: one, and those of an NMI's handler.
const UNFINISHED: u64 = 8;
/// A record with so many behind it has been finished: a CPU is in the middle of one, and perhaps of those that an NMI's
/// handler makes.
const LATEST: u64 = 64;

/// A directory that has been checked: all its rings lie in the guest's memory.
#[derive(Clone, Debug)]
pub struct Rings {
    page: u64,
    directory: Directory,
}

impl Rings {
    /// Looks for a directory in all of the guest's memory.
    pub fn find(ram: &GuestRam) -> Result<Rings, Error> {
        let mut flawed = None;
        // The kernel's own constant, if it happens to begin a page, is one too, and a flawed one.
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

    /// The directory in a page, or `None` if there is none. Read here and not by whoever found the page: the
    /// magic is written last, so all of the directory is there only after the magic was seen.
    pub fn at(ram: &GuestRam, page: u64) -> Result<Option<Rings>, Error> {
        let mut directory = Directory::new_zeroed();
        ram.read(page, directory.as_mut_bytes()).map_err(failed)?;
        if directory.magic != MAGIC {
            return Ok(None);
        }
        match check(&directory, page, ram) {
            Ok(()) => Ok(Some(Rings { page, directory })),
            Err(flaw) => Err(Error::BadDirectory { page, flaw }),
        }
    }

    /// What the directory says now: the kernel fills in the TSC's frequency only when it has measured it. The
    /// rings themselves do not move; if the page is not what it was, the old one holds.
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

    /// The rings, in the order of the CPU list.
    pub fn rings(&self) -> impl Iterator<Item = Ring> + use<> {
        let Directory { cpus, capacity, first_ring, ring_stride, mode, .. } = self.directory;
        (0..cpus).map(move |cpu| Ring {
            cpu,
            stream: mode == 1,
            // Neither overflows: `check` has computed them.
            at: first_ring + u64::from(cpu) * ring_stride,
            capacity: u64::from(capacity),
        })
    }

    /// The trace file's header, without what only the rings and the caller know.
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

/// Whether a directory can be true.
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
    /// Place of the CPU in the CPU list.
    pub cpu: u32,
    stream: bool,
    at: u64,
    capacity: u64,
}

/// What came of a look into a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The place to go on at.
    pub next: u64,
    /// The ring's head at the look.
    pub head: u64,
    /// Records that were begun and never finished.
    pub torn: u64,
    /// Records that were overwritten before they were read.
    pub overwritten: u64,
    /// The head is less than it was: it is the CPU's no more, and nothing was taken.
    pub went_back: bool,
}

/// What came of all looks into a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    torn: u64,
    overwritten: u64,
    went_back: bool,
}

impl Found {
    /// Another look.
    pub fn add(&mut self, taken: &Taken) {
        self.torn = self.torn.saturating_add(taken.torn);
        self.overwritten = self.overwritten.saturating_add(taken.overwritten);
        self.went_back |= taken.went_back;
    }
}

/// Where the records of one look are copied to.
#[derive(Debug)]
pub struct Buffer(Box<[Record]>);

impl Buffer {
    /// So many stay in a core's own cache while they are looked at, copied and written.
    const PLACES: usize = 2048;

    /// Room for one look.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new() -> Result<Buffer, Error> {
        let full = |_| Error::Io("cannot read the trace".to_owned(), io::ErrorKind::OutOfMemory.into());
        Ok(Buffer(Record::new_vec_zeroed(Buffer::PLACES).map_err(full)?.into_boxed_slice()))
    }
}

impl Ring {
    /// The ring's header as it is now.
    pub fn header(&self, ram: &GuestRam) -> Result<RingHeader, Error> {
        let mut header = RingHeader::new_zeroed();
        ram.read(self.at, header.as_mut_bytes()).map_err(failed)?;
        Ok(header)
    }

    /// What the header says about the CPU, for the trace file, when all looks are done.
    pub fn describe(&self, ram: &GuestRam, found: Found) -> Result<Cpu, Error> {
        let Found { torn, overwritten, .. } = found;
        let RingHeader { apic_id, tsc_offset, dropped, .. } = self.header(ram)?;
        let damaged = self.damage(ram, found)?;
        Ok(Cpu { cpu: self.cpu, apic_id, tsc_offset, dropped, torn, overwritten, damaged, ..Cpu::default() })
    }

    /// Why the header cannot be the CPU's, if it cannot.
    fn damage(&self, ram: &GuestRam, found: Found) -> Result<Option<String>, Error> {
        let RingHeader { head, cpu, .. } = self.header(ram)?;
        // A CPU that never came may have left its header blank.
        if head != 0 && cpu != self.cpu {
            return Ok(Some(format!("it says that it is CPU {cpu}'s")));
        }
        // The kernel overwrites nothing in a stream that the host has not read.
        if found.torn > UNFINISHED || (self.stream && found.overwritten != 0) {
            return Ok(Some("its head is not where its records end".to_owned()));
        }
        let mut behind = [Record::default()];
        self.read(ram, head, &mut behind)?;
        let written = behind[0].sequence != 0 && reading::ahead(&behind[0], head) == 0;
        // The CPU takes a place before it writes there: if it runs on, its head has moved.
        let went_back = found.went_back || (written && self.header(ram)?.head == head);
        Ok(went_back.then(|| "its head went back".to_owned()))
    }

    /// The record that was taken last, if it is finished.
    pub fn last(&self, ram: &GuestRam) -> Result<Option<Record>, Error> {
        let Some(place) = self.header(ram)?.head.checked_sub(1) else { return Ok(None) };
        let mut record = [Record::default()];
        self.read(ram, place, &mut record)?;
        Ok((reading::ahead(&record[0], place) == 0).then_some(record[0]))
    }

    /// Tells the kernel that the records before place `next` have been read.
    pub fn publish_tail(&self, ram: &GuestRam, next: u64) -> Result<(), Error> {
        ram.write_u64(self.at + TAIL, next).map_err(failed)
    }

    /// Gives to `each` the whole records of as many places from `from` on as there are and as the buffer takes.
    ///
    /// Works while the CPU writes. A record's sequence is its last word to be written, but a copy of memory has
    /// no order, so of the latest places a first look finds which records are finished, and only then they are
    /// copied. Last `head` tells which of the places were taken again in the meantime. With `last`, the CPU will
    /// write no more: a record that is not finished never will be, is counted as torn, and skipped; else the batch
    /// ends in front of it.
    pub fn take(
        &self,
        ram: &GuestRam,
        from: u64,
        last: bool,
        buffer: &mut Buffer,
        each: &mut impl FnMut(&[Record]) -> Result<(), Error>,
    ) -> Result<Taken, Error> {
        let head = self.header(ram)?.head;
        let start = from.max(head.saturating_sub(self.capacity));
        let mut taken = Taken { next: start, head, overwritten: start - from, ..Taken::default() };
        if head <= start {
            taken.went_back = head < from;
            return Ok(taken);
        }
        let mut places = (head - start).min(Buffer::PLACES as u64);
        if !last {
            let old = head.saturating_sub(LATEST).clamp(start, start + places) - start;
            let latest = &mut buffer.0[old as usize..places as usize];
            self.read(ram, start + old, latest)?;
            places = old + reading::written(latest, start + old) as u64;
        }
        let records = &mut buffer.0[..places as usize];
        self.read(ram, start, records)?;
        let taken_again = self.header(ram)?.head.saturating_sub(self.capacity);
        let gone = taken_again.saturating_sub(start).min(places);
        taken.overwritten += gone;
        taken.next += gone;
        loop {
            let rest = &records[(taken.next - start) as usize..];
            let own = reading::own(rest, taken.next);
            each(&rest[..own])?;
            taken.next += own as u64;
            match rest.get(own) {
                None => break,
                Some(record) if !last && reading::ahead(record, taken.next) < 0 => break,
                Some(_) => {}
            }
            taken.torn += 1;
            taken.next += 1;
        }
        Ok(taken)
    }

    /// Reads places, around the ring's end if need be.
    fn read(&self, ram: &GuestRam, start: u64, records: &mut [Record]) -> Result<(), Error> {
        let first = start % self.capacity;
        let (head, tail) = records.split_at_mut(((self.capacity - first) as usize).min(records.len()));
        let base = self.at + RING_HEADER as u64;
        ram.read(base + first * RECORD as u64, head.as_mut_bytes()).map_err(failed)?;
        ram.read(base, tail.as_mut_bytes()).map_err(failed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::Io("cannot access the guest's memory".to_owned(), error)
}
