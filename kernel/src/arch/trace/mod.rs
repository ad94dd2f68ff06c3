//! Writes this CPU's trace ring, whose layout [`kernel_abi::trace`] defines.

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

pub use self::rings::{NoRoomForRings, init, publish};
use self::rings::{directory, ring_at};
pub use self::send::send_if_requested;
use crate::arch::cpu::tsc;
use crate::tick_work::{TickWork, Work};

/// The number of slots that a stream's ring keeps free for the records that are written without a check for room: the
/// report of a drop, the second event of a system call, and the events of an NMI that arrives between a check and the
/// reservation of a slot. Four are enough: two for the events of a system call, and two for an NMI that also reports a
/// drop. Nothing that interrupts the NMI handler records an event.
const SLACK: u64 = 4;

/// The state that a CPU needs to write its trace ring.
#[repr(C)]
pub struct Tracer {
    /// The mask of the enabled event kinds; 0 while tracing is off.
    pub(in crate::arch) kinds: Cell<u32>,
    /// The ring's capacity in records, minus 1.
    mask: Cell<u32>,
    ring: Cell<*mut RingHeader>,
    /// While the ring's head is below this value, records are written without a check for room. In a flight recorder
    /// the value is `u64::MAX`. In a stream it is the end of the free space found at the last check, or 0 while a drop
    /// must be reported first.
    limit: Cell<u64>,
    /// The number of dropped records not yet reported in the ring.
    dropped: Cell<u64>,
}

impl Tracer {
    /// Creates a tracer that records nothing.
    #[must_use]
    pub const fn off() -> Tracer {
        Tracer {
            kinds: Cell::new(0),
            mask: Cell::new(0),
            ring: Cell::new(ptr::null_mut()),
            limit: Cell::new(u64::MAX),
            dropped: Cell::new(0),
        }
    }

    /// Takes over the ring of an earlier generation of this CPU, so that the trace goes on.
    pub(in crate::arch) fn continue_from(&self, earlier: &Tracer, work: &TickWork) {
        self.set_kinds(earlier.kinds.get(), work);
        self.mask.set(earlier.mask.get());
        self.ring.set(earlier.ring.get());
        self.limit.set(earlier.limit.get());
        self.dropped.set(earlier.dropped.get());
    }

    /// If tracing is on, attaches this CPU's ring, which has index `place` in the list of CPUs.
    pub fn attach(&self, place: u32, apic_id: u32, work: &TickWork) {
        let Some(directory) = directory() else { return };
        let ring = ring_at(directory, place);
        // SAFETY: only this CPU writes the ring with this index (invariant: OWN-RING), and it records nothing yet.
        unsafe {
            (&raw mut (*ring).cpu).write(place);
            (&raw mut (*ring).apic_id).write(apic_id);
        }
        self.use_ring(ring, directory.capacity, directory.mode == 1);
        self.set_kinds(directory.kinds, work);
    }

    fn use_ring(&self, ring: *mut RingHeader, capacity: u32, stream: bool) {
        self.ring.set(ring);
        self.mask.set(capacity - 1);
        // With limit 0, a stream checks for room at its first record.
        self.limit.set(if stream { 0 } else { u64::MAX });
    }

    /// Turns recording on or off.
    pub(in crate::arch) fn switch(&self, on: bool, work: &TickWork) {
        let kinds = directory().map_or(0, |directory| directory.kinds);
        self.set_kinds(if on { kinds } else { 0 }, work);
    }

    /// Sets the enabled kinds. Ticks record an event if theirs is one of them.
    fn set_kinds(&self, kinds: u32, work: &TickWork) {
        self.kinds.set(kinds);
        work.set(Work::Trace, kinds & Kind::Tick.bit() != 0);
    }

    /// Returns whether this CPU records any kind of event.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.kinds.get() != 0
    }

    /// Writes the TSC offset to the ring: the value to add to this CPU's TSC to get the BSP's.
    pub fn set_tsc_offset(&self, offset: i64) {
        let ring = self.ring.get();
        if !ring.is_null() {
            // SAFETY: only this CPU writes its ring (invariant: OWN-RING). The write is volatile because the host may
            // read the word.
            unsafe { (&raw mut (*ring).tsc_offset).write_volatile(offset) };
        }
    }

    /// Records an event if its kind is enabled. A disabled kind costs a test and a branch that is not taken.
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
            self.put(kind, a, b, tsc::halves);
        }
    }

    /// Records the entry of a system call, calls `call` for its result, and records the exit. Checks for room once, for
    /// both events: [`SLACK`] includes a slot for the second one. If the next record needs a check for room, calls
    /// `near_full` instead.
    #[inline(always)]
    pub(in crate::arch) fn around(
        &self,
        number: u64,
        argument: u64,
        call: impl FnOnce() -> u64,
        near_full: impl FnOnce() -> u64,
    ) -> u64 {
        if self.is_near_full() {
            return near_full();
        }
        self.put(Kind::SyscallEnter, number, argument, tsc::halves);
        let result = call();
        // The exit event reads the TSC first and the entry event reads it last, so that a call's time does not include
        // the recording.
        let now = tsc::halves();
        self.put(Kind::SyscallExit, number, result, || now);
        result
    }

    /// Returns whether the next record needs a check for room first.
    #[inline(always)]
    fn is_near_full(&self) -> bool {
        self.head() >= self.limit.get()
    }

    #[inline(always)]
    fn head(&self) -> u64 {
        // SAFETY: this CPU's ring is mapped while tracing is on. The read is volatile because an NMI may change the
        // head.
        unsafe { (&raw const (*self.ring.get()).head).read_volatile() }
    }

    /// Checks for room and records the event, or drops it. Called when the known free space is used up or the last
    /// record was dropped.
    #[cold]
    #[inline(never)]
    fn record_or_drop(&self, kind: Kind, a: u64, b: u64) {
        // SAFETY: this CPU's ring is mapped while tracing is on. The read is volatile because the host writes the word.
        let tail = unsafe { (&raw const (*self.ring.get()).tail).read_volatile() };
        let room = tail.saturating_add((u64::from(self.mask.get()) + 1).saturating_sub(SLACK));
        if self.head() >= room {
            // SAFETY: only this CPU writes the two words (invariant: OWN-RING). Each is incremented by a single
            // instruction, so that an NMI, whose handler may also drop a record, cannot split the update.
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
            // An NMI after the check may have found room and set a limit. Limit 0 ensures that the next record reports
            // this drop first.
            self.limit.set(0);
            return;
        }
        self.limit.set(room);
        let mut unreported = 0_u64;
        // SAFETY: only this CPU writes the word (invariant: OWN-RING). The exchange is a single instruction, so that a
        // drop that an NMI handler reports in the meantime is not reported twice.
        unsafe {
            asm!(
                "xchg [{word}], {unreported}",
                word = in(reg) self.dropped.as_ptr(),
                unreported = inout(reg) unreported,
                options(nostack, preserves_flags),
            );
        }
        if unreported != 0 {
            self.put(Kind::Dropped, unreported, 0, tsc::halves);
        }
        self.put(kind, a, b, tsc::halves);
    }

    /// Reserves a slot and writes the record. `tsc` is called as late as possible.
    #[inline(always)]
    fn put(&self, kind: Kind, a: u64, b: u64, tsc: impl FnOnce() -> [u32; 2]) {
        let ring = self.ring.get();
        let mut place = 1_u64;
        // SAFETY: only this CPU writes the ring's head (invariant: OWN-RING), so the instruction needs no lock prefix.
        // It must be a single instruction, so that an NMI cannot arrive in its middle and reserve the same slot.
        unsafe {
            asm!(
                "xadd [{ring} + {head}], {place}",
                ring = in(reg) ring,
                head = const offset_of!(RingHeader, head),
                place = inout(reg) place,
                options(nostack),
            );
        }
        // SAFETY: the mask keeps the index below the ring's capacity.
        let record = unsafe { ring.add(1).cast::<Record>().add((place as u32 & self.mask.get()) as usize) };
        // SAFETY: the slot is reserved for this event (invariant: OWN-RING). The stores are volatile, so that the
        // compiler keeps their order and the host sees `sequence` last: a valid `sequence` means that the other fields
        // are complete.
        unsafe {
            (&raw mut (*record).a).write_volatile(a);
            (&raw mut (*record).b).write_volatile(b);
            // `rdtsc` returns two halves. Two stores take fewer instructions than combining them.
            let [low, high] = tsc();
            let halves = (&raw mut (*record).tsc).cast::<u32>();
            halves.write_volatile(low);
            halves.add(1).write_volatile(high);
            // One store for `kind` and `reserved`.
            (&raw mut (*record).kind).cast::<u32>().write_volatile(kind as u32);
            (&raw mut (*record).sequence).write_volatile((place as u32).wrapping_add(1));
        }
    }
}
