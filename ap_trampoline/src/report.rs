//! The report in which CPUs record features that the kernel requires and they lack. Such a CPU parks in the trampoline.

use core::mem::size_of;
use core::sync::atomic::{AtomicU32, Ordering};

/// The features that a CPU lacks, as bits of EDX in two CPUID leaves. All zero if the CPU has not reported any.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Missing {
    pub(crate) basic: AtomicU32,
    pub(crate) extended: AtomicU32,
}

impl Missing {
    /// Returns the bits of leaf 1 and of leaf 0x8000_0001, or `None` if the CPU has reported nothing.
    #[must_use]
    pub fn get(&self) -> Option<(u32, u32)> {
        let bits = (self.basic.load(Ordering::Relaxed), self.extended.load(Ordering::Relaxed));
        (bits != (0, 0)).then_some(bits)
    }

    /// Reports missing features that the trampoline does not check.
    pub fn set(&self, basic: u32, extended: u32) {
        self.basic.store(basic, Ordering::Relaxed);
        self.extended.store(extended, Ordering::Relaxed);
    }
}

/// One row for each APIC id that CPUID leaf 1 can report. That leaf reports only 8 bits of the id, so two CPUs whose
/// ids are equal modulo 256 share a row. The CPUs write the report before they enable paging, so it must lie below 4
/// GiB.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Report([Missing; 256]);

impl Report {
    /// Returns the row of a CPU.
    #[must_use]
    pub fn row(&self, apic_id: u32) -> &Missing {
        &self.0[Report::index(apic_id)]
    }

    /// Returns the index of a CPU's row.
    #[must_use]
    pub const fn index(apic_id: u32) -> usize {
        apic_id as usize & 0xff
    }
}

const _: () = assert!(size_of::<Missing>() == 8, "the trampoline scales a row's index by 8");
const _: () = assert!(size_of::<Report>() <= 4096, "a report must fit in a page");
