//! Tests of a full ring, with a simulated host that sometimes takes records from the ring.

use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

pub(super) const CAPACITY: usize = 16;

#[repr(C)]
pub(super) struct Ring {
    pub header: RingHeader,
    records: [Record; CAPACITY],
}

/// A CPU's tracer, its ring, and a simulated host that takes records from the ring.
pub(super) struct Traced {
    pub tracer: Tracer,
    pub ring: *mut Ring,
    pub taken: Cell<u64>,
}

impl Traced {
    pub fn new(stream: bool) -> Traced {
        let ring = Box::new(Ring { header: RingHeader::default(), records: [Record::default(); CAPACITY] });
        let (tracer, ring) = (Tracer::off(), Box::into_raw(ring));
        tracer.use_ring(ring.cast(), CAPACITY as u32, stream);
        tracer.kinds.set(Kind::User.bit() | Kind::SyscallEnter.bit() | Kind::SyscallExit.bit());
        Traced { tracer, ring, taken: Cell::new(0) }
    }

    pub fn event(&self, n: u64) {
        self.tracer.event(Kind::User, n, !n);
    }

    /// Records a system call with three events, as `SYS_TRACE` does. The one in the middle is a user event.
    pub fn call(&self, n: u64) {
        let call = || {
            self.event(n);
            !n
        };
        let near_full = || {
            self.tracer.event(Kind::SyscallEnter, n, !n);
            let result = call();
            self.tracer.event(Kind::SyscallExit, n, result);
            result
        };
        self.tracer.around(n, !n, call, near_full);
    }

    pub fn ring(&self) -> &Ring {
        // SAFETY: the ring lives as long as `self`, and no reference to it is held while the tracer writes.
        unsafe { &*self.ring }
    }

    /// Takes up to `most` records, as the host does: it stops at the first incomplete record.
    pub fn take(&self, most: u64) -> Vec<(u16, u64, u64)> {
        let start = self.taken.get();
        let end = self.ring().header.head.min(start.saturating_add(most));
        let complete = |place: &u64| u64::from(self.record(*place).sequence) == place + 1;
        let records: Vec<_> = (start..end).take_while(complete).map(|place| self.record(place)).collect();
        self.taken.set(start + records.len() as u64);
        // SAFETY: the ring lives as long as `self`. The write is volatile because it may run in the middle of an event.
        unsafe { (&raw mut (*self.ring).header.tail).write_volatile(self.taken.get()) };
        records.into_iter().map(|record| (record.kind, record.a, record.b)).collect()
    }

    fn record(&self, place: u64) -> Record {
        self.ring().records[place as usize % CAPACITY]
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // SAFETY: `new` created the pointer with `Box::into_raw`, and it is freed only here.
        drop(unsafe { Box::from_raw(self.ring) });
    }
}

const USER: u16 = Kind::User as u16;
const DROPPED: u16 = Kind::Dropped as u16;

#[test]
fn flight_recorder_overwrites_the_oldest_records() {
    let traced = Traced::new(false);
    (0..100).for_each(|n| traced.event(n));
    traced.taken.set(100 - CAPACITY as u64);
    let latest: Vec<_> = (84..100).map(|n| (USER, n, !n)).collect();
    assert_eq!((traced.take(100), traced.ring().header.dropped), (latest, 0));
    assert!(traced.ring().records.iter().all(|record| record.reserved == 0));
}

#[test]
fn stream_without_a_reader_keeps_the_first_records_and_counts_the_rest() {
    let traced = Traced::new(true);
    (0..100).for_each(|n| traced.event(n));
    let room = CAPACITY as u64 - SLACK;
    assert_eq!((traced.ring().header.head, traced.ring().header.dropped), (room, 100 - room));
    let first: Vec<_> = (0..room).map(|n| (USER, n, !n)).collect();
    assert_eq!(traced.take(100), first);
    // There is room again. The drop is reported first, and only once.
    traced.event(100);
    traced.event(101);
    assert_eq!(traced.take(100), [(DROPPED, 100 - room, 0), (USER, 100, !100), (USER, 101, !101)]);
    assert_eq!(traced.ring().header.dropped, 100 - room);
}

#[test]
fn tail_beyond_the_head_loses_no_record() {
    let traced = Traced::new(true);
    // SAFETY: the ring lives as long as `traced`, and nothing else refers to it now.
    unsafe { (*traced.ring).header.tail = u64::MAX };
    (0..100).for_each(|n| traced.event(n));
    assert_eq!((traced.ring().header.head, traced.ring().header.dropped), (100, 0));
}

proptest! {
    #[test]
    fn drops_are_reported_where_records_are_missing(steps in prop::collection::vec((0..40_u64, 0..40_u64), 1..40)) {
        let traced = Traced::new(true);
        let (mut n, mut got, mut missing) = (0, 0, 0);
        for (events, taken) in steps {
            (n..n + events).for_each(|n| traced.event(n));
            n += events;
            for (kind, a, b) in traced.take(taken) {
                if kind == DROPPED {
                    missing += a;
                    got += a;
                } else {
                    prop_assert_eq!((kind, a, b), (USER, got, !got));
                    got += 1;
                }
            }
        }
        let (head, dropped) = (traced.ring().header.head, traced.ring().header.dropped);
        for (kind, a, _) in traced.take(head) {
            let is_drop = kind == DROPPED;
            missing += if is_drop { a } else { 0 };
            got += if is_drop { a } else { 1 };
        }
        // Drops after the last record are still unreported: the next record would report them.
        prop_assert_eq!(missing + traced.tracer.dropped.get(), dropped);
        prop_assert_eq!(got + traced.tracer.dropped.get(), n);
    }
}
