//! Finding the rings in a guest's memory, and taking records out of one.

use std::io;

use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader, reading};
use zerocopy::{FromZeros, IntoBytes};

use super::guest_ram::GuestRam;
use crate::trace::error::{Error, Flaw};
use crate::trace::file::{Cpu, Header, Mode};
use crate::trace::layout::{RECORD, RING_HEADER, TAIL};

/// More CPUs than any machine has that QEMU makes.
pub const CPUS_MAX: u32 = 8192;
const PAGE: u64 = 4096;

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
        let Directory { cpus, capacity, first_ring, ring_stride, .. } = self.directory;
        (0..cpus).map(move |cpu| Ring {
            cpu,
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
    at: u64,
    capacity: u64,
}

/// What came of a look into a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The place to go on at.
    pub next: u64,
    /// Places that were looked at.
    pub places: u64,
    /// Records that were begun and never finished.
    pub torn: u64,
    /// Records that were overwritten before they were read.
    pub overwritten: u64,
}

impl Ring {
    /// Places that are looked at in one go.
    pub const BATCH: u64 = 32 * 1024;

    /// The ring's header as it is now.
    pub fn header(&self, ram: &GuestRam) -> Result<RingHeader, Error> {
        let mut header = RingHeader::new_zeroed();
        ram.read(self.at, header.as_mut_bytes()).map_err(failed)?;
        Ok(header)
    }

    /// What the header says about the CPU, for the trace file.
    pub fn describe(&self, ram: &GuestRam) -> Result<Cpu, Error> {
        let header = self.header(ram)?;
        // A CPU that never came may have left its header blank.
        if header.head != 0 && header.cpu != self.cpu {
            return Err(Error::Ring(self.cpu, format!("it says that it is CPU {}'s", header.cpu)));
        }
        let RingHeader { apic_id, tsc_offset, dropped, .. } = header;
        Ok(Cpu { cpu: self.cpu, apic_id, tsc_offset, dropped, ..Cpu::default() })
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

    /// Appends to `out` the whole records of at most [`Ring::BATCH`] places from `from` on.
    ///
    /// Works while the CPU writes. A record's sequence is its last word to be written, but a copy of memory has
    /// no order, so a first look finds which records are finished and a second one takes them. Then `head` tells
    /// which of their places were taken again in the meantime. With `last`, the CPU will write no more: a record
    /// that is not finished never will be, is counted as torn, and skipped; else the batch ends in front of it.
    pub fn take(&self, ram: &GuestRam, from: u64, last: bool, out: &mut Vec<Record>) -> Result<Taken, Error> {
        let head = self.header(ram)?.head;
        let start = from.max(head.saturating_sub(self.capacity));
        let mut taken = Taken { next: start, overwritten: start.saturating_sub(from), ..Taken::default() };
        let places = head.saturating_sub(start).min(Ring::BATCH);
        if places == 0 {
            return Ok(taken);
        }
        let mut records = records(places)?;
        self.read(ram, start, &mut records)?;
        if !last {
            records.truncate(reading::written(&records, start));
        }
        self.read(ram, start, &mut records)?;
        let whole = records.len() as u64;
        let taken_again = self.header(ram)?.head.saturating_sub(self.capacity);
        let gone = taken_again.saturating_sub(start).min(whole);
        taken.overwritten += gone;
        (taken.next, taken.places) = (start + whole, whole);
        let mut rest = &records[gone as usize..];
        loop {
            let place = start + whole - rest.len() as u64;
            let (own, others) = rest.split_at(reading::own(rest, place));
            out.extend_from_slice(own);
            let [_, behind @ ..] = others else { break };
            taken.torn += 1;
            rest = behind;
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

/// Room for so many, as fast as the system gives it.
fn records(count: u64) -> Result<Vec<Record>, Error> {
    let full = |_| Error::Io("cannot read the trace".to_owned(), io::ErrorKind::OutOfMemory.into());
    Record::new_vec_zeroed(count as usize).map_err(full)
}

fn failed(error: io::Error) -> Error {
    Error::Io("cannot access the guest's memory".to_owned(), error)
}
