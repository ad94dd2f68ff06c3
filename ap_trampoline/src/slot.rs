//! The slot: a mailbox through which an application processor receives its stack.

use core::mem::{align_of, offset_of, size_of};
use core::sync::atomic::AtomicU32;

/// The values of [`ApSlot::state`].
///
/// The trampoline performs one transition, `OFFERED` to `CLAIMED`, with a locked compare-exchange. The kernel performs
/// all others (`kernel/src/online.rs`, drawn in `docs/ap-start.md`).
pub mod slot_state {
    /// The slot is not offered yet. A CPU that arrives now parks.
    pub const VACANT: u32 = 0;
    /// Stack and argument are filled in. The CPU with this slot's APIC id may claim the slot.
    pub const OFFERED: u32 = 1;
    /// The CPU has claimed the slot and is about to enter the kernel.
    pub const CLAIMED: u32 = 2;
    /// The CPU has initialised itself and runs kernel code.
    pub const ONLINE: u32 = 3;
    /// The bootstrap processor's timeout has expired. A CPU that arrives now parks.
    pub const CLOSED: u32 = 4;
    /// The bootstrap processor has asked the CPU to leave the run. The CPU still runs.
    pub const LEAVING: u32 = 5;
    /// The CPU has left: it is halted with interrupts off, and uses neither its stacks nor its data.
    pub const PARKED: u32 = 6;
}

/// The data that the kernel passes to one application processor, and the state of its start.
///
/// Each slot fills a cache line, so that CPUs that arrive at the same time do not contend for the line. The kernel
/// keeps the slots in one array in its half of the address space, which the bring-up page tables share. The array is
/// never freed, because a late CPU may still read it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ApSlot {
    /// A value of [`slot_state`]. Written by the trampoline, the bootstrap processor and the application processor.
    pub state: AtomicU32,
    /// The APIC id of the CPU that owns this slot, in the APIC mode that the APs enter. It is unique in the array of
    /// slots. It is not written after the first SIPI, because CPUs read it during their search.
    pub apic_id: u32,
    /// The upper end of the stack, a multiple of 16. The stack is mapped writable in the kernel's half.
    pub stack_top: u64,
    /// The argument of the kernel entry point, passed in `rdi`.
    pub argument: u64,
}

impl ApSlot {
    /// Creates a vacant slot for the CPU with this APIC id.
    #[must_use]
    pub const fn new(apic_id: u32, stack_top: u64, argument: u64) -> Self {
        Self { state: AtomicU32::new(slot_state::VACANT), apic_id, stack_top, argument }
    }
}

const _: () = assert!(size_of::<ApSlot>() == 64, "the trampoline advances from slot to slot by 64 bytes");
const _: () = assert!(align_of::<ApSlot>() == 64, "two slots must not share a cache line");
const _: () = assert!(
    offset_of!(ApSlot, state).is_multiple_of(4) && size_of::<AtomicU32>() == 4,
    "the trampoline's cmpxchgl needs an aligned 32-bit word"
);
