//! This CPU's trace: writes the ring whose layout [`kernel_abi::trace`] defines.

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
pub use self::send::send_if_requested;
use crate::arch::cpu::tsc;

/// Places that a stream's ring keeps free for the report of a drop, and for an NMI that arrives between the check for
/// room and the reservation of a place. Three would be enough: one for the event, and two for an NMI that reports a
/// drop as well. Nothing that interrupts the NMI handler records an event.
const SLACK: u64 = 4;

/// What a CPU needs to write its ring.
#[repr(C)]
pub struct Tracer {
    /// The bits of the enabled kinds; 0 while nothing is traced.
    pub(in crate::arch) kinds: Cell<u32>,
    /// The ring's capacity in records, minus 1.
    mask: Cell<u32>,
    ring: Cell<*mut RingHeader>,
    /// A record is written without a check for room if the ring's head is below this. `u64::MAX` in a flight recorder.
    /// In a stream, the end of the room that the host had made at the last check; 0 while a drop must be reported
    /// first.
    limit: Cell<u64>,
    /// The number of the system call that is being handled, for the event of its exit.
    pub(in crate::arch) number: Cell<u64>,
    /// Records dropped and not yet reported in the ring.
    dropped: Cell<u64>,
}

impl Tracer {
    /// Makes a tracer that records nothing.
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

    /// Attaches the ring of this CPU, which has index `place` in the list of CPUs, if anything is traced.
    pub fn attach(&self, place: u32, apic_id: u32) {
        let Some(directory) = directory() else { return };
        let ring = ring_at(directory, place);
        // SAFETY: the ring with this index, which only this CPU writes (invariant: OWN-RING). The CPU records nothing
        // yet.
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
        // A stream's first record checks how much room there is.
        self.limit.set(if stream { 0 } else { u64::MAX });
    }

    /// Switches recording off or on again.
    pub(in crate::arch) fn switch(&self, on: bool) {
        let kinds = directory().map_or(0, |directory| directory.kinds);
        self.kinds.set(if on { kinds } else { 0 });
    }

    /// Whether this CPU records any event.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.kinds.get() != 0
    }

    /// Writes to the ring what must be added to this CPU's TSC to get the BSP's.
    pub fn set_tsc_offset(&self, offset: i64) {
        let ring = self.ring.get();
        if !ring.is_null() {
            // SAFETY: only this CPU writes its ring (invariant: OWN-RING). Volatile, because the host may read the
            // word.
            unsafe { (&raw mut (*ring).tsc_offset).write_volatile(offset) };
        }
    }

    /// Records an event if its kind is enabled. If not, it costs a test and a branch that is not taken.
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

    /// Whether a record needs a check for room first.
    #[inline(always)]
    pub(in crate::arch) fn is_near_full(&self) -> bool {
        self.head() >= self.limit.get()
    }

    #[inline(always)]
    fn head(&self) -> u64 {
        // SAFETY: this CPU's ring is mapped while anything is traced. Volatile, because an NMI may change the word.
        unsafe { (&raw const (*self.ring.get()).head).read_volatile() }
    }

    /// Records an event after a check for room, or drops it. Called if the known room is used up or the last record was
    /// dropped.
    #[cold]
    #[inline(never)]
    pub(in crate::arch) fn record_or_drop(&self, kind: Kind, a: u64, b: u64) {
        // SAFETY: this CPU's ring is mapped while anything is traced. Volatile, because the host writes the word.
        let tail = unsafe { (&raw const (*self.ring.get()).tail).read_volatile() };
        let room = tail.saturating_add(u64::from(self.mask.get()) + 1 - SLACK);
        if self.head() >= room {
            // SAFETY: only this CPU writes the two words (invariant: OWN-RING). Each is incremented by one instruction,
            // so that an NMI, whose handler may drop a record too, arrives before it or after it.
            unsafe {
                asm!(
                    "inc qword ptr [{unreported}]",
                    "inc qword ptr [{ring} + {dropped}]",
                    unreported = in(reg) self.dropped.as_ptr(),
                    ring = in(reg) self.ring.get(),
                    dropped = const offset_of!(RingHeader, dropped),
                    options(nostack),
                );
            }
            // An NMI since the check may have found room and set a limit. With limit 0 the next record reports this
            // drop in any case.
            self.limit.set(0);
            return;
        }
        self.limit.set(room);
        let mut unreported = 0_u64;
        // SAFETY: only this CPU writes the word (invariant: OWN-RING). One instruction, so that a drop that an NMI's
        // handler reports in between is not reported again.
        unsafe {
            asm!(
                "xchg [{word}], {unreported}",
                word = in(reg) self.dropped.as_ptr(),
                unreported = inout(reg) unreported,
                options(nostack, preserves_flags),
            );
        }
        if unreported != 0 {
            self.put(Kind::Dropped, unreported, 0, tsc::now);
        }
        self.put(kind, a, b, tsc::now);
    }

    /// Reserves a place and writes the record. `tsc` is called as late as possible.
    #[inline(always)]
    pub(in crate::arch) fn put(&self, kind: Kind, a: u64, b: u64, tsc: impl FnOnce() -> u64) {
        let ring = self.ring.get();
        let mut place = 1_u64;
        // SAFETY: only this CPU writes the ring's head (invariant: OWN-RING), so the instruction needs no lock prefix.
        // It is one instruction, so that an NMI arrives before it or after it and reserves another place.
        unsafe {
            asm!(
                "xadd [{ring} + {head}], {place}",
                ring = in(reg) ring,
                head = const offset_of!(RingHeader, head),
                place = inout(reg) place,
                options(nostack),
            );
        }
        // SAFETY: the mask makes the index less than the ring's capacity.
        let record = unsafe { ring.add(1).cast::<Record>().add((place as u32 & self.mask.get()) as usize) };
        // SAFETY: the place is reserved for this event (invariant: OWN-RING). The stores are volatile, so that the
        // compiler keeps their order, in which the host sees them: a valid `sequence` means that the other fields are
        // complete.
        unsafe {
            (&raw mut (*record).a).write_volatile(a);
            (&raw mut (*record).b).write_volatile(b);
            (&raw mut (*record).tsc).write_volatile(tsc());
            // One store for `sequence`, `kind` and `reserved`: under an emulator the memory accesses dominate the cost.
            let last = u64::from((place as u32).wrapping_add(1)) | (kind as u64) << 32;
            (&raw mut (*record).sequence).cast::<u64>().write_volatile(last);
        }
    }
}
