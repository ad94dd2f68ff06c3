//! This CPU's trace: the writer of the rings that [`kernel_abi::trace`] lays out.

#[cfg(test)]
mod nmi_tests;
mod rings;
mod send;
#[cfg(test)]
mod tests;

use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;
use core::ptr;

use kernel_abi::trace::{Kind, Record, RingHeader};

pub use self::rings::{NoRoomForRings, init};
use self::rings::{directory, ring_at};
pub use self::send::send_if_wanted;
use crate::arch::cpu::tsc;

/// Places that a full ring of a stream keeps free: for the report of a drop, and for NMIs that strike between the
/// look at the ring and the taking of a place. Three would do: one for the event, and two for an NMI that has a drop to
/// tell. Nothing that strikes an NMI's handler records anything.
const SLACK: u64 = 4;

/// What a CPU needs to write its ring.
#[repr(C)]
pub struct Tracer {
    /// The enabled kinds' bits; 0 while nothing is traced.
    pub(in crate::arch) kinds: Cell<u32>,
    /// Records in the ring, less 1.
    mask: Cell<u32>,
    ring: Cell<*mut RingHeader>,
    /// A record is written at once if the ring's head is below: always, unless it is a stream, where it is how far the
    /// host had made room at the last look; never, while a drop has to be told first.
    limit: Cell<u64>,
    /// The number of the system call that is being handled, for the event on its way out.
    pub(in crate::arch) number: Cell<u64>,
    /// Records dropped since the last one that was written.
    dropped: Cell<u64>,
}

impl Tracer {
    /// A tracer that records nothing.
    #[must_use]
    pub const fn off() -> Tracer {
        Tracer {
            kinds: Cell::new(0),
            mask: Cell::new(0),
            ring: Cell::new(ptr::null_mut()),
            limit: Cell::new(u64::MAX),
            number: Cell::new(0),
            dropped: Cell::new(0),
        }
    }

    /// Gives this CPU, the `place`-th of the list, its ring, if there are any.
    pub fn attach(&self, place: u32, apic_id: u32) {
        let Some(directory) = directory() else { return };
        let ring = ring_at(directory, place);
        // SAFETY: the ring of this place, which has no other user.
        unsafe {
            (&raw mut (*ring).cpu).write(place);
            (&raw mut (*ring).apic_id).write(apic_id);
        }
        self.use_ring(ring, directory.capacity, directory.mode == 1);
        self.kinds.set(directory.kinds);
    }

    fn use_ring(&self, ring: *mut RingHeader, capacity: u32, stream: bool) {
        self.ring.set(ring);
        self.mask.set(capacity - 1);
        // A stream's first record looks how much room there is.
        self.limit.set(if stream { 0 } else { u64::MAX });
    }

    /// Records no more for a while, or does again.
    pub(in crate::arch) fn switch(&self, on: bool) {
        let kinds = directory().map_or(0, |directory| directory.kinds);
        self.kinds.set(if on { kinds } else { 0 });
    }

    /// Does this CPU record anything?
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.kinds.get() != 0
    }

    /// Notes in the ring what to add to this CPU's TSC to get the BSP's.
    pub fn set_tsc_offset(&self, offset: i64) {
        let ring = self.ring.get();
        if !ring.is_null() {
            // SAFETY: this CPU's ring; only this CPU writes the word, the host may read it.
            unsafe { (&raw mut (*ring).tsc_offset).write_volatile(offset) };
        }
    }

    /// Records an event if its kind is enabled. Switched off it costs a test and a branch that is not taken.
    #[inline(always)]
    pub fn event(&self, kind: Kind, a: u64, b: u64) {
        if self.kinds.get() & kind.bit() != 0 {
            self.record_cold(kind, a, b);
        }
    }

    #[cold]
    #[inline(never)]
    fn record_cold(&self, kind: Kind, a: u64, b: u64) {
        self.record(kind, a, b);
    }

    /// Records an event.
    #[inline(always)]
    fn record(&self, kind: Kind, a: u64, b: u64) {
        if self.is_near_full() {
            self.record_or_drop(kind, a, b);
        } else {
            self.put(kind, a, b, tsc::now);
        }
    }

    /// Has this ring no room that is known of?
    #[inline(always)]
    pub(in crate::arch) fn is_near_full(&self) -> bool {
        self.head() >= self.limit.get()
    }

    #[inline(always)]
    fn head(&self) -> u64 {
        // SAFETY: this CPU's ring; volatile, since an NMI may move the word.
        unsafe { (&raw const (*self.ring.get()).head).read_volatile() }
    }

    /// The known room is used up, or the last record was dropped: looks how far the host has come.
    #[cold]
    #[inline(never)]
    pub(in crate::arch) fn record_or_drop(&self, kind: Kind, a: u64, b: u64) {
        // SAFETY: this CPU's ring; volatile, since the host writes the word.
        let tail = unsafe { (&raw const (*self.ring.get()).tail).read_volatile() };
        let room = tail.saturating_add(u64::from(self.mask.get()) + 1 - SLACK);
        if self.head() >= room {
            // SAFETY: this CPU's two words, which no other CPU writes. One instruction each, so that an NMI, which may drop
            // a record too, comes before it or after it.
            unsafe {
                asm!(
                    "inc qword ptr [{untold}]",
                    "inc qword ptr [{ring} + {dropped}]",
                    untold = in(reg) self.dropped.as_ptr(),
                    ring = in(reg) self.ring.get(),
                    dropped = const offset_of!(RingHeader, dropped),
                    options(nostack),
                );
            }
            // An NMI since the look may have found room and set a limit: the next record tells of this drop all the same.
            self.limit.set(0);
            return;
        }
        self.limit.set(room);
        let mut untold = 0_u64;
        // SAFETY: as above. What an NMI has told in the meantime is not told again.
        unsafe {
            asm!(
                "xchg [{word}], {untold}",
                word = in(reg) self.dropped.as_ptr(),
                untold = inout(reg) untold,
                options(nostack, preserves_flags),
            );
        }
        if untold != 0 {
            self.put(Kind::Dropped, untold, 0, tsc::now);
        }
        self.put(kind, a, b, tsc::now);
    }

    /// Takes a place and fills it. `tsc` is asked as late as can be.
    #[inline(always)]
    pub(in crate::arch) fn put(&self, kind: Kind, a: u64, b: u64, tsc: impl FnOnce() -> u64) {
        let ring = self.ring.get();
        let mut place = 1_u64;
        // SAFETY: this CPU's ring, whose head only this CPU writes. One instruction, so that an NMI comes before it or
        // after it; no lock prefix, since no other CPU writes it.
        unsafe {
            asm!(
                "xadd [{ring} + {head}], {place}",
                ring = in(reg) ring,
                head = const offset_of!(RingHeader, head),
                place = inout(reg) place,
                options(nostack),
            );
        }
        // SAFETY: the mask keeps the place inside the ring.
        let record = unsafe { ring.add(1).cast::<Record>().add((place as u32 & self.mask.get()) as usize) };
        // SAFETY: the place is this event's alone. The stores are volatile, so that they stay in this order, which is
        // also the order in which the host sees them: `sequence` says that the others are there.
        unsafe {
            (&raw mut (*record).a).write_volatile(a);
            (&raw mut (*record).b).write_volatile(b);
            (&raw mut (*record).tsc).write_volatile(tsc());
            // `sequence`, `kind` and `reserved` at once: under an emulator it is memory accesses that cost.
            let last = u64::from((place as u32).wrapping_add(1)) | (kind as u64) << 32;
            (&raw mut (*record).sequence).cast::<u64>().write_volatile(last);
        }
    }
}
