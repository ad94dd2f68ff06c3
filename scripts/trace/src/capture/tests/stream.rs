//! Tests of draining rings while the guest runs.

use std::os::unix::fs::FileExt;

use super::guest::{Guest, MEMORY, places, scratch};
use crate::capture::{Chipset, Drain, Summary};
use crate::error::Error;
use crate::file::Mode;

/// Runs a guest in stream mode. Unlike the kernel, it waits for free space, so that no record may be lost.
fn stream(records: u64, capacity: u32, chunk: u64) -> Summary {
    let mut guest = Guest::new(2, capacity, 1);
    let (_folder, path) = scratch();
    let file = guest.file.try_clone().expect("cannot duplicate the handle");
    let drain = Drain::start(file, Chipset::Q35, path.clone(), Vec::new()).expect("cannot start");
    while guest.heads[0] < records {
        for cpu in 0..2 {
            guest.wait_for_room(cpu, chunk);
            guest.write(cpu, chunk);
        }
    }
    // A record that is never finished, followed by a finished one. Only the last poll skips the unfinished one.
    guest.wait_for_room(1, 2);
    guest.reserve(1);
    guest.write(1, 1);
    let summary = drain.stop().expect("cannot drain");
    let expected: Vec<u64> = (0..guest.heads[1]).filter(|place| *place != guest.heads[1] - 2).collect();
    let places = places(&path);
    assert!(places[0] == (0..guest.heads[0]).collect::<Vec<_>>(), "CPU 0 is not complete, or not in order");
    assert!(places[1] == expected, "CPU 1 is not complete, or not in order");
    summary
}

#[test]
fn stream_is_complete_and_in_order_and_frees_space() {
    let summary = stream(2000, 64, 8);
    assert_eq!(summary.records(), 2 * 2000 + 1);
    let [first, second] = &summary.header.cpus[..] else { panic!("there must be two CPUs") };
    assert_eq!((first.torn, second.torn, first.overwritten), (0, 1, 0));
    assert_eq!(summary.header.mode, Mode::Stream);
}

#[test]
fn stream_of_many_polls_is_complete() {
    // There are more records than fit in one copy, and usually more than one poll finds. The ring wraps around many
    // times.
    assert_eq!(stream(300_000, 16384, 5000).records(), 2 * 300_000 + 1);
}

#[test]
fn search_ends_if_the_guest_never_set_up_its_trace() {
    let file = tempfile::tempfile().expect("cannot create a file");
    file.set_len(MEMORY).expect("cannot set the size");
    let (_folder, path) = scratch();
    let drain = Drain::start(file, Chipset::Q35, path, Vec::new()).expect("cannot start");
    assert_eq!(drain.progress(), []);
    assert!(matches!(drain.stop(), Err(Error::NoDirectory)));
}

#[test]
fn invalid_head_in_stream_mode_does_not_affect_other_cpus() {
    for head in [1 << 63, u64::MAX, 5] {
        let mut guest = Guest::new(2, 64, 1);
        let (_folder, path) = scratch();
        let file = guest.file.try_clone().expect("cannot duplicate the handle");
        let drain = Drain::start(file, Chipset::Q35, path.clone(), Vec::new()).expect("cannot start");
        (0..2).for_each(|cpu| guest.write(cpu, 30));
        while (0..2).any(|cpu| guest.header(cpu).tail != 30) {
            std::thread::yield_now();
        }
        guest.file.write_all_at(&u64::to_le_bytes(head), guest.ring(0)).expect("cannot write");
        guest.write(1, 20);
        while head > 30 && guest.header(0).tail == 30 {
            std::thread::yield_now();
        }
        let summary = drain.stop().expect("cannot drain");
        assert_eq!(places(&path)[1], (0..50).collect::<Vec<_>>());
        assert_eq!(places(&path)[0][..30], (0..30).collect::<Vec<_>>());
        let why = if head < 30 { "its head decreased" } else { "its head is not at the end of its records" };
        assert_eq!(summary.header.damage(), Some((0, why)), "{head:#x}");
    }
}

#[test]
fn overwritten_stream_is_damaged_even_if_its_records_are_complete() {
    let mut guest = Guest::new(1, 64, 1);
    let (_folder, path) = scratch();
    let file = guest.file.try_clone().expect("cannot duplicate the handle");
    let drain = Drain::start(file, Chipset::Q35, path.clone(), Vec::new()).expect("cannot start");
    guest.heads[0] = 1000;
    guest.write(0, 64);
    let summary = drain.stop().expect("cannot drain");
    assert_eq!((summary.header.cpus[0].overwritten, summary.header.cpus[0].torn), (1000, 0));
    assert_eq!(summary.header.damage(), Some((0, "its head is not at the end of its records")));
    assert_eq!(places(&path), [(1000..1064).collect::<Vec<_>>()]);
}
