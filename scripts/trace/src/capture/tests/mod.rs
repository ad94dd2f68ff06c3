//! Tests of capturing the rings of synthetic guests, which write them to a file as the kernel does.

mod guest;
mod stream;

use std::os::unix::fs::FileExt;

use kernel_abi::trace::{Directory, MAGIC};

use self::guest::{FIRST, Guest, MEMORY, PAGE, places, read, scratch};
use super::guest_ram::midway;
use super::rings::Rings;
use super::*;
use crate::error::{Error, Flaw};

#[test]
fn flight_recorder_that_wrapped_around_has_the_last_records_in_order() {
    let mut guest = Guest::new(3, 64, 0);
    guest.write(0, 10);
    guest.write(1, 64 * 5 + 7);
    let (_folder, path) = scratch();
    let summary = flight(&guest.ram(), &path, &["run".to_owned()]).expect("cannot capture");
    let expected: Vec<Vec<u64>> = vec![(0..10).collect(), (263..327).collect(), vec![]];
    assert_eq!(places(&path), expected);
    let header = &summary.header;
    assert_eq!(
        (header.cpus[1].overwritten, header.cpus[1].apic_id, header.cpus[1].tsc_offset),
        (263, 11, -1)
    );
    assert_eq!((header.tsc_hz, header.boot_tsc), (1_000_000_000, 500));
    assert_eq!((header.kinds.join(" "), header.command.join(" ")), ("dropped user".into(), "run".into()));
    assert_eq!(header.losses(), None, "overwritten records must not count as lost in a flight recorder");
}

#[test]
fn torn_records_are_skipped_and_counted() {
    let mut guest = Guest::new(1, 64, 0);
    guest.write(0, 100);
    // This position still contains the record of the previous round.
    guest.reserve(0);
    guest.write(0, 2);
    let (_folder, path) = scratch();
    let summary = flight(&guest.ram(), &path, &[]).expect("cannot capture");
    let expected: Vec<u64> = (39..100).chain([101, 102]).collect();
    assert_eq!(places(&path), [expected]);
    assert_eq!((summary.header.cpus[0].torn, summary.header.cpus[0].overwritten), (1, 39));
    let losses = summary.header.losses().expect("there must be losses");
    assert!(losses.ends_with("1 never finished"), "{losses}");
}

#[test]
fn read_of_a_running_ring_ends_before_an_unfinished_record() {
    let mut guest = Guest::new(1, 64, 1);
    let (ring, ram) = (guest.only_ring(), guest.ram());
    guest.write(0, 3);
    let unfinished = guest.reserve(0);
    // A record written by an NMI handler.
    guest.write(0, 1);
    let read_from = |from| {
        let (taken, records) = read(&ram, &ring, from);
        (taken.next, records.len())
    };
    assert_eq!(read_from(0), (3, 3));
    assert_eq!(read_from(3), (3, 0));
    guest.fill(0, unfinished);
    assert_eq!(read_from(3), (5, 2));
}

#[test]
fn read_ends_before_an_unfinished_record_far_from_the_head() {
    let mut guest = Guest::new(1, 512, 1);
    let (ring, ram) = (guest.only_ring(), guest.ram());
    guest.write(0, 100);
    let far = guest.reserve(0);
    guest.write(0, 150);
    let near = guest.reserve(0);
    guest.write(0, 10);
    let read_from = |from| {
        let (taken, records) = read(&ram, &ring, from);
        assert!(records.iter().zip(from..).all(|(record, place)| record.a == place));
        (taken.next, taken.torn, records.len())
    };
    // More records follow this position than any CPU leaves unfinished, but its record is not written.
    assert_eq!(read_from(0), (far, 0, 100));
    guest.fill(0, far);
    assert_eq!(read_from(0), (near, 0, 251));
    guest.fill(0, near);
    assert_eq!(read_from(far), (262, 0, 162));
}

#[test]
fn record_that_is_finished_during_the_copy_is_copied_again() {
    let mut guest = Guest::new(1, 64, 1);
    let (ring, ram) = (guest.only_ring(), guest.ram());
    let place = guest.reserve(0);
    midway::set(move || guest.fill(0, place));
    // The first copy contains the new last words, but the old first words.
    let (taken, records) = read(&ram, &ring, 0);
    assert_eq!((taken.next, records.len()), (1, 1));
    assert_eq!((records[0].tsc, records[0].a), (1000, 0));
}

#[test]
fn records_overwritten_between_two_reads_are_counted() {
    let mut guest = Guest::new(1, 64, 0);
    guest.write(0, 200);
    let (taken, records) = read(&guest.ram(), &guest.only_ring(), 10);
    assert_eq!((taken.next, taken.overwritten, records.len()), (200, 126, 64));
}

#[test]
fn ring_that_wraps_around_during_a_read_gives_only_complete_records() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut guest = Guest::new(1, 64, 0);
    let (ring, ram) = (guest.only_ring(), guest.ram());
    // Stops the writer even if an assertion fails.
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
                let place = guest.reserve(0);
                guest.fill(0, place);
            }
        });
        let _stop = Stop(&stop);
        let (mut next, mut seen, mut overwritten) = (0, 0, 0);
        // Repeat until enough records of both kinds have been seen.
        while seen < 20_000 || overwritten < 1000 {
            let (taken, out) = read(&ram, &ring, next);
            assert_eq!(out.len() as u64 + taken.overwritten, taken.next - next);
            assert_eq!(taken.torn, 0, "a read must end before an unfinished record");
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
    let (taken, records) = read(&guest.ram(), &guest.only_ring(), 0);
    assert_eq!((taken.next, taken.torn, records.len()), (guest.heads[0], 0, 64));
}

#[test]
fn invalid_directory_is_refused_with_the_reason() {
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
fn valid_directory_is_found_after_an_invalid_one() {
    let mut guest = Guest::new(1, 64, 0);
    guest.write(0, 1);
    // As if the constant in the kernel image were at the start of a page.
    guest.file.write_all_at(&MAGIC, 0x1000).expect("cannot write");
    let (_folder, path) = scratch();
    assert_eq!(flight(&guest.ram(), &path, &[]).expect("cannot capture").records(), 1);
}

#[test]
fn memory_without_a_trace_is_an_error_that_names_the_option() {
    let file = tempfile::tempfile().expect("cannot create a file");
    file.set_len(MEMORY).expect("cannot set the size");
    let ram = GuestRam::new(file, Chipset::Q35).expect("cannot access the memory");
    let (_folder, path) = scratch();
    let error = flight(&ram, &path, &[]).expect_err("it must fail without a trace");
    assert!(error.to_string().contains("trace="), "{error}");
    assert!(!path.exists());
}

#[test]
fn invalid_heads_in_flight_mode_do_not_affect_other_cpus() {
    for (head, why) in [
        (1 << 63, "its head is not at the end of its records"),
        (u64::MAX, "its head is not at the end of its records"),
        (5, "its head decreased"),
        (0, "its head decreased"),
    ] {
        let mut guest = Guest::new(3, 64, 0);
        (0..3).for_each(|cpu| guest.write(cpu, 30));
        // Two invalid heads, so that the sum of their counts would overflow.
        (0..2).for_each(|cpu| {
            guest.file.write_all_at(&u64::to_le_bytes(head), guest.ring(cpu)).expect("cannot write");
            guest.file.write_all_at(&[0xff; 8], guest.ring(cpu) + 8).expect("cannot write");
        });
        let (_folder, path) = scratch();
        let summary = flight(&guest.ram(), &path, &[]).expect("cannot capture");
        assert_eq!(summary.header.damage(), Some((0, why)), "{head:#x}");
        assert!(summary.header.losses().is_some_and(|losses| losses.contains("dropped")));
        assert_eq!(places(&path)[2], (0..30).collect::<Vec<_>>());
    }
}

#[test]
fn ring_with_another_cpus_index_is_damaged_and_does_not_affect_others() {
    let mut guest = Guest::new(2, 64, 0);
    guest.write(0, 2);
    guest.write(1, 1);
    guest.file.write_all_at(&7u32.to_le_bytes(), guest.ring(1) + 16).expect("cannot write");
    let (_folder, path) = scratch();
    let summary = flight(&guest.ram(), &path, &[]).expect("cannot capture");
    assert_eq!(summary.header.damage(), Some((1, "its header names CPU 7")));
    assert_eq!(places(&path), [vec![0, 1], vec![0]]);
}
