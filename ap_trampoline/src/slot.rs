//! The mailbox through which an application processor receives its stack.

use core::mem::{align_of, offset_of, size_of};
use core::sync::atomic::AtomicU32;

/// The values of [`ApSlot::state`].
///
/// The trampoline makes one transition, `OFFERED` to `CLAIMED`, by a locked compare-exchange.
/// All others are made by the kernel (`kernel/src/online.rs`, drawn in `docs/ap-start.md`).
pub mod slot_state {
    /// Nothing is offered: a CPU that arrives parks.
    pub const VACANT: u32 = 0;
    /// Stack and argument are filled in; the CPU with this slot's APIC id may take them.
    pub const OFFERED: u32 = 1;
    /// The CPU has taken stack and argument and is about to enter the kernel.
    pub const CLAIMED: u32 = 2;
    /// The CPU has initialised itself and runs kernel code.
    pub const ONLINE: u32 = 3;
    /// The bootstrap processor's timeout has expired: a CPU that arrives parks.
    pub const CLOSED: u32 = 4;
}

/// What the trampoline and one application processor exchange.
///
/// A slot fills a cache line of its own, so that CPUs that arrive at the same time do not contend for it.
/// The kernel keeps the slots in one array in its half of the address space, which the bring-up page
/// table shares. The array is never freed: a late CPU still reads it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ApSlot {
    /// One of [`slot_state`]. Written by the trampoline and by both sides of the handshake.
    pub state: AtomicU32,
    /// The CPU that this slot is for: the id of its local APIC in the mode that the APs enter. It is unique in
    /// an array of slots. Not written after the first SIPI: CPUs read it while they search.
    pub apic_id: u32,
    /// The stack's upper end, a multiple of 16, mapped writable in the kernel's half.
    pub stack_top: u64,
    /// Passed to the kernel's entry in `rdi`.
    pub argument: u64,
}

impl ApSlot {
    /// A vacant slot for the CPU with this APIC id.
    #[must_use]
    pub const fn new(apic_id: u32, stack_top: u64, argument: u64) -> Self {
        Self { state: AtomicU32::new(slot_state::VACANT), apic_id, stack_top, argument }
    }
}

const _: () = assert!(size_of::<ApSlot>() == 64, "the trampoline steps from slot to slot by one cache line");
const _: () = assert!(align_of::<ApSlot>() == 64, "two slots must not share a cache line");
const _: () = assert!(
    offset_of!(ApSlot, state).is_multiple_of(4) && size_of::<AtomicU32>() == 4,
    "the trampoline's cmpxchgl works on an aligned 32-bit word"
);
