//! Synthetic guests: rings in a file, written as the kernel writes them, and captured.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use kernel_abi::trace::{Directory, Kind, MAGIC, Record, RingHeader};
use zerocopy::{FromZeros, IntoBytes};

use super::rings::{Buffer, Ring, Rings, Taken};
use super::*;
use crate::trace::error::{Error, Flaw};
use crate::trace::layout::{RECORD, RING_HEADER};
use crate::trace::reader::Reader;

const MEMORY: u64 = 64 << 20;
const PAGE: u64 = 0x20_3000;
const FIRST: u64 = 0x40_0000;

/// A guest, written to through its memory's file.
pub struct Guest {
    pub file: File,
    pub directory: Directory,
    heads: Vec<u64>,
}

impl Guest {
    /// A guest with so many CPUs, each with a ring of so many records.
    pub fn new(cpus: u32, capacity: u32, mode: u32) -> Guest {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(MEMORY).expect("a size");
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

    fn put_directory(&self) {
        self.file.write_all_at(self.directory.as_bytes(), PAGE).expect("writes");
    }

    fn ring(&self, cpu: usize) -> u64 {
        FIRST + cpu as u64 * self.directory.ring_stride
    }

    fn header(&self, cpu: usize) -> RingHeader {
        let mut header = RingHeader::new_zeroed();
        self.file.read_exact_at(header.as_mut_bytes(), self.ring(cpu)).expect("reads");
        header
    }

    /// What only the CPU writes; the tail stays.
    fn put_header(&self, cpu: usize) {
        let mut header = self.header(cpu);
        header.head = self.heads[cpu];
        (header.cpu, header.apic_id, header.tsc_offset) = (cpu as u32, 10 + cpu as u32, -(cpu as i64));
        self.file.write_all_at(&header.as_bytes()[..64], self.ring(cpu)).expect("writes");
    }

    /// Writes the record of a place, whose `a` is the place's number.
    fn fill(&self, cpu: usize, place: u64) {
        let sequence = (place + 1) as u32;
        let record =
            Record { tsc: 1000 + place, a: place, b: 0, sequence, kind: Kind::User as u16, reserved: 0 };
        let at = (RING_HEADER + (place % u64::from(self.directory.capacity)) as usize * RECORD) as u64;
        self.file.write_all_at(record.as_bytes(), self.ring(cpu) + at).expect("writes");
    }

    /// Takes the next place without filling it.
    fn take(&mut self, cpu: usize) -> u64 {
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

    /// Waits until the reader has made room for so many records.
    fn wait_for_room(&self, cpu: usize, count: u64) {
        while self.heads[cpu] + count - self.header(cpu).tail > u64::from(self.directory.capacity) {
            std::thread::yield_now();
        }
    }

    fn ram(&self) -> GuestRam {
        GuestRam::new(self.file.try_clone().expect("another handle"), Chipset::Q35).expect("memory")
    }

    fn only_ring(&self) -> Ring {
        Rings::find(&self.ram()).expect("found").rings().next().expect("a ring")
    }
}

/// A look into a ring of a guest that may be running, and what it gave.
fn look(ram: &GuestRam, ring: &Ring, from: u64) -> (Taken, Vec<Record>) {
    let (mut buffer, mut records) = (Buffer::new().expect("room"), Vec::new());
    let mut each = |some: &[Record]| {
        records.extend_from_slice(some);
        Ok(())
    };
    let taken = ring.take(ram, from, false, &mut buffer, &mut each).expect("looks");
    (taken, records)
}

/// The records' `a`, CPU by CPU.
fn places(path: &std::path::Path) -> Vec<Vec<u64>> {
    let reader = Reader::open(path).expect("opens");
    let lane = |lane| {
        let mut records = reader.records(lane);
        std::iter::from_fn(move || records.next().expect("reads")).map(|record| record.a).collect()
    };
    (0..reader.header().cpus.len()).map(lane).collect()
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.rtrace");
    (folder, path)
}

#[test]
fn a_flight_recorder_that_went_round_holds_the_last_records_in_order() {
    let mut guest = Guest::new(3, 64, 0);
    guest.write(0, 10);
    guest.write(1, 64 * 5 + 7);
    let (_folder, path) = scratch();
    let summary = flight(&guest.ram(), &path, &["run".to_owned()]).expect("captures");
    let expected: Vec<Vec<u64>> = vec![(0..10).collect(), (263..327).collect(), vec![]];
    assert_eq!(places(&path), expected);
    let header = &summary.header;
    assert_eq!(
        (header.cpus[1].overwritten, header.cpus[1].apic_id, header.cpus[1].tsc_offset),
        (263, 11, -1)
    );
    assert_eq!((header.tsc_hz, header.boot_tsc), (1_000_000_000, 500));
    assert_eq!((header.kinds.join(" "), header.command.join(" ")), ("dropped user".into(), "run".into()));
    assert_eq!(header.losses(), None, "a flight recorder forgets");
}

#[test]
fn torn_records_are_left_out_and_counted() {
    let mut guest = Guest::new(1, 64, 0);
    guest.write(0, 100);
    // Its place still holds the record of a lap ago.
    guest.take(0);
    guest.write(0, 2);
    let (_folder, path) = scratch();
    let summary = flight(&guest.ram(), &path, &[]).expect("captures");
    let expected: Vec<u64> = (39..100).chain([101, 102]).collect();
    assert_eq!(places(&path), [expected]);
    assert_eq!((summary.header.cpus[0].torn, summary.header.cpus[0].overwritten), (1, 39));
    let losses = summary.header.losses().expect("something is missing");
    assert!(losses.ends_with("1 never finished"), "{losses}");
}

#[test]
fn a_look_into_a_running_ring_ends_in_front_of_an_unfinished_record() {
    let mut guest = Guest::new(1, 64, 1);
    let (ring, ram) = (guest.only_ring(), guest.ram());
    guest.write(0, 3);
    let unfinished = guest.take(0);
    // An NMI in between.
    guest.write(0, 1);
    let look_from = |from| {
        let (taken, records) = look(&ram, &ring, from);
        (taken.next, records.len())
    };
    assert_eq!(look_from(0), (3, 3));
    assert_eq!(look_from(3), (3, 0));
    guest.fill(0, unfinished);
    assert_eq!(look_from(3), (5, 2));
}

#[test]
fn an_unfinished_record_far_behind_the_head_ends_a_look_too() {
    let mut guest = Guest::new(1, 512, 1);
    let (ring, ram) = (guest.only_ring(), guest.ram());
    guest.write(0, 100);
    let far = guest.take(0);
    guest.write(0, 150);
    let near = guest.take(0);
    guest.write(0, 10);
    let look_from = |from| {
        let (taken, records) = look(&ram, &ring, from);
        assert!(records.iter().zip(from..).all(|(record, place)| record.a == place));
        (taken.next, taken.torn, records.len())
    };
    // More behind it than any CPU is in the middle of: but it is not there.
    assert_eq!(look_from(0), (far, 0, 100));
    guest.fill(0, far);
    assert_eq!(look_from(0), (near, 0, 251));
    guest.fill(0, near);
    assert_eq!(look_from(far), (262, 0, 162));
}

#[test]
fn a_head_that_is_nonsense_costs_no_other_cpu_a_record() {
    for nonsense in [1 << 63, u64::MAX, 5] {
        let mut guest = Guest::new(2, 64, 1);
        let (_folder, path) = scratch();
        let file = guest.file.try_clone().expect("another handle");
        let drain = Drain::start(file, Chipset::Q35, path.clone(), Vec::new()).expect("starts");
        (0..2).for_each(|cpu| guest.write(cpu, 30));
        while (0..2).any(|cpu| guest.header(cpu).tail != 30) {
            std::thread::yield_now();
        }
        guest.file.write_all_at(&u64::to_le_bytes(nonsense), guest.ring(0)).expect("writes");
        guest.write(1, 20);
        while nonsense > 30 && guest.header(0).tail == 30 {
            std::thread::yield_now();
        }
        if nonsense > 30 {
            guest.write(0, 1);
        }
        let summary = drain.stop().expect("drains");
        assert_eq!(places(&path)[1], (0..50).collect::<Vec<_>>());
        assert_eq!(places(&path)[0][..30], (0..30).collect::<Vec<_>>());
        assert_eq!(summary.header.damage(), Some((0, "its head went back")), "{nonsense:#x}");
    }
}

#[test]
fn what_went_round_between_two_looks_counts_as_overwritten() {
    let mut guest = Guest::new(1, 64, 0);
    guest.write(0, 200);
    let (taken, records) = look(&guest.ram(), &guest.only_ring(), 10);
    assert_eq!((taken.next, taken.overwritten, records.len()), (200, 126, 64));
}

#[test]
fn a_look_into_a_ring_that_goes_round_meanwhile_gives_whole_records_only() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut guest = Guest::new(1, 64, 0);
    let (ring, ram) = (guest.only_ring(), guest.ram());
    // However the looks end, the writer ends too.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let place = guest.take(0);
                guest.fill(0, place);
            }
        });
        let _stop = Stop(&stop);
        let (mut next, mut seen, mut overwritten) = (0, 0, 0);
        // Until enough has been seen of both.
        while seen < 20_000 || overwritten < 1000 {
            let (taken, out) = look(&ram, &ring, next);
            assert_eq!(out.len() as u64 + taken.overwritten, taken.next - next);
            assert_eq!(taken.torn, 0, "the look ended in front of what was not finished");
            for record in &out {
                assert_eq!((record.tsc - 1000, record.sequence), (record.a, record.a as u32 + 1));
                assert!((next..taken.next).contains(&record.a), "{record:?}");
            }
            seen += out.len();
            (next, overwritten) = (taken.next, overwritten + taken.overwritten);
        }
    });
}

#[test]
fn sequences_wrap_around() {
    let mut guest = Guest::new(1, 64, 0);
    guest.heads[0] = u64::from(u32::MAX) - 10;
    guest.write(0, 64);
    let (taken, records) = look(&guest.ram(), &guest.only_ring(), 0);
    assert_eq!((taken.next, taken.torn, records.len()), (guest.heads[0], 0, 64));
}

#[test]
fn a_directory_that_cannot_be_true_is_refused_with_the_reason() {
    let flaw = |change: fn(&mut Directory)| {
        let mut guest = Guest::new(2, 64, 0);
        change(&mut guest.directory);
        guest.put_directory();
        match Rings::find(&guest.ram()) {
            Err(Error::BadDirectory { page: PAGE, flaw }) => flaw,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(flaw(|d| d.cpus = 0), Flaw::Cpus(0));
    assert_eq!(flaw(|d| d.cpus = u32::MAX), Flaw::Cpus(u32::MAX));
    assert_eq!(flaw(|d| d.capacity = 63), Flaw::Capacity(63));
    assert_eq!(flaw(|d| d.capacity = 0), Flaw::Capacity(0));
    assert_eq!(flaw(|d| d.first_ring += 8), Flaw::Alignment(FIRST + 8));
    assert_eq!(flaw(|d| d.ring_stride = 64), Flaw::Stride(64));
    assert_eq!(flaw(|d| d.mode = 2), Flaw::Mode(2));
    assert_eq!(flaw(|d| d.first_ring = MEMORY - 4096), Flaw::Outside(1), "its second ring is beyond the end");
    assert_eq!(flaw(|d| d.first_ring = MEMORY), Flaw::Outside(0));
    assert_eq!(flaw(|d| d.first_ring = u64::MAX - 63), Flaw::Outside(0));
    assert_eq!(flaw(|d| d.ring_stride = u64::MAX - 63), Flaw::Outside(1));
    assert_eq!(flaw(|d| d.first_ring = PAGE), Flaw::Overlap(0));
}

#[test]
fn a_true_directory_is_found_behind_a_false_one() {
    let mut guest = Guest::new(1, 64, 0);
    guest.write(0, 1);
    // As where the kernel's own constant happens to begin a page.
    guest.file.write_all_at(&MAGIC, 0x1000).expect("writes");
    let (_folder, path) = scratch();
    assert_eq!(flight(&guest.ram(), &path, &[]).expect("captures").records(), 1);
}

#[test]
fn memory_without_a_trace_says_what_to_look_at() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(MEMORY).expect("a size");
    let ram = GuestRam::new(file, Chipset::Q35).expect("memory");
    let (_folder, path) = scratch();
    let error = flight(&ram, &path, &[]).expect_err("nothing there");
    assert!(error.to_string().contains("trace="), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_ring_that_says_that_it_is_another_cpus_is_damaged_and_costs_no_other_a_record() {
    let mut guest = Guest::new(2, 64, 0);
    guest.write(0, 2);
    guest.write(1, 1);
    guest.file.write_all_at(&7u32.to_le_bytes(), guest.ring(1) + 16).expect("writes");
    let (_folder, path) = scratch();
    let summary = flight(&guest.ram(), &path, &[]).expect("captures");
    assert_eq!(summary.header.damage(), Some((1, "it says that it is CPU 7's")));
    assert_eq!(places(&path), [vec![0, 1], vec![0]]);
}

/// A guest in stream mode that waits for room, as no kernel would: what it wrote must arrive, all of it.
fn stream(records: u64, capacity: u32, chunk: u64) -> Summary {
    let mut guest = Guest::new(2, capacity, 1);
    let (_folder, path) = scratch();
    let file = guest.file.try_clone().expect("another handle");
    let drain = Drain::start(file, Chipset::Q35, path.clone(), Vec::new()).expect("starts");
    while guest.heads[0] < records {
        for cpu in 0..2 {
            guest.wait_for_room(cpu, chunk);
            guest.write(cpu, chunk);
        }
    }
    // Never finished, and one behind it: only the last look passes over it.
    guest.wait_for_room(1, 2);
    guest.take(1);
    guest.write(1, 1);
    let summary = drain.stop().expect("drains");
    let expected: Vec<u64> = (0..guest.heads[1]).filter(|place| *place != guest.heads[1] - 2).collect();
    let places = places(&path);
    assert!(places[0] == (0..guest.heads[0]).collect::<Vec<_>>(), "CPU 0 is not complete, or not in order");
    assert!(places[1] == expected, "CPU 1 is not complete, or not in order");
    summary
}

#[test]
fn a_stream_arrives_whole_and_in_order_and_makes_room_for_more() {
    let summary = stream(2000, 64, 8);
    assert_eq!(summary.records(), 2 * 2000 + 1);
    let [first, second] = &summary.header.cpus[..] else { panic!("two CPUs") };
    assert_eq!((first.torn, second.torn, first.overwritten), (0, 1, 0));
    assert_eq!(summary.header.mode, crate::trace::file::Mode::Stream);
}

#[test]
fn a_stream_of_many_looks_arrives_whole() {
    // More than one copy takes, around the end of the ring again and again, and mostly more than one look finds.
    assert_eq!(stream(300_000, 16384, 5000).records(), 2 * 300_000 + 1);
}

#[test]
fn a_guest_that_never_came_to_its_trace_ends_the_search() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(MEMORY).expect("a size");
    let (_folder, path) = scratch();
    let drain = Drain::start(file, Chipset::Q35, path, Vec::new()).expect("starts");
    assert_eq!(drain.progress(), []);
    assert!(matches!(drain.stop(), Err(Error::NoDirectory)));
}
