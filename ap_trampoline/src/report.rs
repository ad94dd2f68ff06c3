//! The report in which CPUs record the last stage that they reached in the trampoline, and the required features that
//! they lack. A CPU that lacks a required feature parks in the trampoline.

use core::mem::size_of;
use core::sync::atomic::{AtomicU32, Ordering};

/// The last stage that a CPU has reported from the trampoline. A CPU reports stages only before it claims its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reached {
    /// The CPU has reported nothing: it was not started, or it is in real mode.
    Nothing = 0,
    /// The CPU has reached 32-bit protected mode.
    ProtectedMode = 1,
    /// The CPU was about to enable paging. It cannot report anything afterwards, because the report is not mapped.
    Paging = 2,
}

/// A row of the report. All zero if the CPU has reported nothing.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Row {
    pub(crate) basic: AtomicU32,
    pub(crate) extended: AtomicU32,
    pub(crate) reached: AtomicU32,
    unused: u32,
}

impl Row {
    /// Returns the features that the CPU lacks, as bits of EDX in leaf 1 and in leaf 0x8000_0001, or `None` if the CPU has
    /// reported none.
    #[must_use]
    pub fn missing(&self) -> Option<(u32, u32)> {
        let bits = (self.basic.load(Ordering::Relaxed), self.extended.load(Ordering::Relaxed));
        (bits != (0, 0)).then_some(bits)
    }

    /// Reports missing features that the trampoline does not check.
    pub fn set_missing(&self, basic: u32, extended: u32) {
        self.basic.store(basic, Ordering::Relaxed);
        self.extended.store(extended, Ordering::Relaxed);
    }

    /// Returns the last stage that the CPU has reported since the last [`restart`](Self::restart).
    #[must_use]
    pub fn reached(&self) -> Reached {
        match self.reached.load(Ordering::Relaxed) {
            0 => Reached::Nothing,
            1 => Reached::ProtectedMode,
            _ => Reached::Paging,
        }
    }

    /// Clears the stage that the CPU has reported. Called before the CPU is started again.
    pub fn restart(&self) {
        self.reached.store(Reached::Nothing as u32, Ordering::Relaxed);
    }
}

/// One row for each APIC id that CPUID leaf 1 can report. That leaf reports only 8 bits of the id, so two CPUs whose
/// ids are equal modulo 256 share a row. The CPUs write the report before they enable paging, so it must lie below 4
/// GiB.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Report([Row; 256]);

impl Report {
    /// Returns the row of a CPU.
    #[must_use]
    pub fn row(&self, apic_id: u32) -> &Row {
        &self.0[Report::index(apic_id)]
    }

    /// Returns the index of a CPU's row.
    #[must_use]
    pub const fn index(apic_id: u32) -> usize {
        apic_id as usize & 0xff
    }
}

const _: () =
    assert!(size_of::<Row>().is_power_of_two(), "the trampoline shifts the id to get a row's offset");
const _: () = assert!(size_of::<Report>() <= 4096, "a report must fit in a page");
