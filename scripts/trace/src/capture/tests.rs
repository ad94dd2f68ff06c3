//! Synthetic guests: rings in a file, written as the kernel writes them, and captured.

mod guest;
mod stream;

use std::os::unix::fs::FileExt;

use kernel_abi::trace::{Directory, MAGIC};

use self::guest::{FIRST, Guest, MEMORY, PAGE, look, places, scratch};
use super::guest_ram::midway;
use super::rings::Rings;
use super::*;
use crate::error::{Error, Flaw};

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
fn a_record_that_is_finished_while_it_is_copied_is_copied_again() {
    let mut guest = Guest::new(1, 64, 1);
    let (ring, ram) = (guest.only_ring(), guest.ram());
    let place = guest.take(0);
    midway::set(move || guest.fill(0, place));
    // The copy in which its last word is there has its first words from before.
    let (taken, records) = look(&ram, &ring, 0);
    assert_eq!((taken.next, records.len()), (1, 1));
    assert_eq!((records[0].tsc, records[0].a), (1000, 0));
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
fn heads_that_are_nonsense_after_a_run_cost_no_other_cpu_a_record() {
    for (nonsense, why) in [
        (1 << 63, "its head is not where its records end"),
        (u64::MAX, "its head is not where its records end"),
        (5, "its head went back"),
        (0, "its head went back"),
    ] {
        let mut guest = Guest::new(3, 64, 0);
        (0..3).for_each(|cpu| guest.write(cpu, 30));
        // Two of them: counts that are nonsense have no sum.
        (0..2).for_each(|cpu| {
            guest.file.write_all_at(&u64::to_le_bytes(nonsense), guest.ring(cpu)).expect("writes");
            guest.file.write_all_at(&[0xff; 8], guest.ring(cpu) + 8).expect("writes");
        });
        let (_folder, path) = scratch();
        let summary = flight(&guest.ram(), &path, &[]).expect("captures");
        assert_eq!(summary.header.damage(), Some((0, why)), "{nonsense:#x}");
        assert!(summary.header.losses().is_some_and(|losses| losses.contains("dropped")));
        assert_eq!(places(&path)[2], (0..30).collect::<Vec<_>>());
    }
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
