//! A synthetic guest that writes its rings as the kernel does, and functions that read these rings.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytemuck::{Zeroable, bytes_of, bytes_of_mut};
use kernel_abi::trace::{Directory, Kind, MAGIC, Record, RingHeader};

use crate::capture::rings::{Buffer, ReadResult, Ring, Rings};
use crate::capture::{Chipset, GuestRam};
use crate::layout::{RECORD, RING_HEADER};
use crate::reader::Reader;

pub const MEMORY: u64 = 64 << 20;
pub const PAGE: u64 = 0x20_3000;
pub const FIRST: u64 = 0x40_0000;

/// A guest whose memory is written through its file.
pub struct Guest {
    pub file: File,
    pub directory: Directory,
    pub heads: Vec<u64>,
}

impl Guest {
    /// Creates a guest with `cpus` CPUs, each with a ring of `capacity` records.
    pub fn new(cpus: u32, capacity: u32, mode: u32) -> Guest {
        let file = tempfile::tempfile().expect("cannot create a file");
        file.set_len(MEMORY).expect("cannot set the size");
        let ring_stride = (RING_HEADER as u64 + u64::from(capacity) * RECORD as u64).next_multiple_of(4096);
        let directory = Directory {
            magic: MAGIC,
            cpus,
            capacity,
            first_ring: FIRST,
            ring_stride,
            tsc_hz: 1_000_000_000,
            boot_tsc: 500,
            kinds: Kind::User.bit() | Kind::Dropped.bit(),
            mode,
        };
        let guest = Guest { file, directory, heads: vec![0; cpus as usize] };
        guest.put_directory();
        (0..cpus).for_each(|cpu| guest.put_header(cpu as usize));
        guest
    }

    pub fn put_directory(&self) {
        self.file.write_all_at(bytes_of(&self.directory), PAGE).expect("cannot write");
    }

    pub fn ring(&self, cpu: usize) -> u64 {
        FIRST + cpu as u64 * self.directory.ring_stride
    }

    pub fn header(&self, cpu: usize) -> RingHeader {
        let mut header = RingHeader::zeroed();
        self.file.read_exact_at(bytes_of_mut(&mut header), self.ring(cpu)).expect("cannot read");
        header
    }

    /// Writes the part of the header that only the CPU writes. The tail stays unchanged.
    pub fn put_header(&self, cpu: usize) {
        let mut header = self.header(cpu);
        header.head = self.heads[cpu];
        (header.cpu, header.apic_id, header.tsc_offset) = (cpu as u32, 10 + cpu as u32, -(cpu as i64));
        self.file.write_all_at(&bytes_of(&header)[..64], self.ring(cpu)).expect("cannot write");
    }

    /// Writes the record at a position. Its `a` is the position.
    pub fn fill(&self, cpu: usize, place: u64) {
        let sequence = (place + 1) as u32;
        let record =
            Record { tsc: 1000 + place, a: place, b: 0, sequence, kind: Kind::User as u16, reserved: 0 };
        let at = (RING_HEADER + (place % u64::from(self.directory.capacity)) as usize * RECORD) as u64;
        self.file.write_all_at(bytes_of(&record), self.ring(cpu) + at).expect("cannot write");
    }

    /// Reserves the next position without writing the record.
    pub fn reserve(&mut self, cpu: usize) -> u64 {
        self.heads[cpu] += 1;
        self.put_header(cpu);
        self.heads[cpu] - 1
    }

    /// Writes the next records.
    pub fn write(&mut self, cpu: usize, count: u64) {
        let first = self.heads[cpu];
        (first..first + count).for_each(|place| self.fill(cpu, place));
        self.heads[cpu] += count;
        self.put_header(cpu);
    }

    /// Waits until the reader has freed space for `count` records.
    pub fn wait_for_room(&self, cpu: usize, count: u64) {
        while self.heads[cpu] + count - self.header(cpu).tail > u64::from(self.directory.capacity) {
            std::thread::yield_now();
        }
    }

    pub fn ram(&self) -> GuestRam {
        GuestRam::new(self.file.try_clone().expect("cannot duplicate the handle"), Chipset::Q35)
            .expect("cannot access the memory")
    }

    pub fn only_ring(&self) -> Ring {
        Rings::find(&self.ram()).expect("cannot find the rings").rings().next().expect("there must be a ring")
    }
}

/// Reads a ring of a guest that may be running. Returns the result and the records read.
pub fn read(ram: &GuestRam, ring: &Ring, from: u64) -> (ReadResult, Vec<Record>) {
    let (mut buffer, mut records) = (Buffer::new().expect("cannot allocate the buffer"), Vec::new());
    let mut each = |some: &[Record]| {
        records.extend_from_slice(some);
        Ok(())
    };
    let taken = ring.read_records(ram, from, false, &mut buffer, &mut each).expect("cannot read");
    (taken, records)
}

/// Returns `a` of every record, for each CPU.
pub fn places(path: &Path) -> Vec<Vec<u64>> {
    let reader = Reader::open(path).expect("cannot open");
    let lane = |lane| {
        let mut records = reader.records(lane);
        std::iter::from_fn(move || records.next().expect("cannot read")).map(|record| record.a).collect()
    };
    (0..reader.header().cpus.len()).map(lane).collect()
}

pub fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let path = folder.path().join("x.rtrace");
    (folder, path)
}
