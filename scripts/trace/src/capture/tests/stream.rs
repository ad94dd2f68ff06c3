//! Rings that are drained while the guest runs.

use std::os::unix::fs::FileExt;

use super::guest::{Guest, MEMORY, places, scratch};
use crate::capture::{Chipset, Drain, Summary};
use crate::error::Error;
use crate::file::Mode;

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
    assert_eq!(summary.header.mode, Mode::Stream);
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
        let summary = drain.stop().expect("drains");
        assert_eq!(places(&path)[1], (0..50).collect::<Vec<_>>());
        assert_eq!(places(&path)[0][..30], (0..30).collect::<Vec<_>>());
        let why = if nonsense < 30 { "its head went back" } else { "its head is not where its records end" };
        assert_eq!(summary.header.damage(), Some((0, why)), "{nonsense:#x}");
    }
}

#[test]
fn a_stream_that_was_overwritten_is_damaged_however_whole_its_records_are() {
    let mut guest = Guest::new(1, 64, 1);
    let (_folder, path) = scratch();
    let file = guest.file.try_clone().expect("another handle");
    let drain = Drain::start(file, Chipset::Q35, path.clone(), Vec::new()).expect("starts");
    guest.heads[0] = 1000;
    guest.write(0, 64);
    let summary = drain.stop().expect("drains");
    assert_eq!((summary.header.cpus[0].overwritten, summary.header.cpus[0].torn), (1000, 0));
    assert_eq!(summary.header.damage(), Some((0, "its head is not where its records end")));
    assert_eq!(places(&path), [(1000..1064).collect::<Vec<_>>()]);
}
