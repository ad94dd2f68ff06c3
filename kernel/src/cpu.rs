//! The two kinds of CPU identifier. There is no implicit conversion between them, because confusing them is an easy
//! mistake on a machine whose APIC ids are sparse.
#![forbid(unsafe_code)]

use core::fmt;

/// A CPU's dense index, used to index tables. 0 is the BSP; the other CPUs follow in the order of the MADT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct CpuId(pub u32);

impl CpuId {
    /// The bootstrap processor.
    pub const BSP: CpuId = CpuId(0);

    /// Returns the index as a `usize`, for indexing slices.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {}", self.0)
    }
}

/// A CPU's local APIC id, 8 bits wide in xAPIC mode and 32 bits in x2APIC mode. Used as the destination of IPIs. APIC
/// ids are sparse, so they are never used as an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ApicId(pub u32);

impl fmt::Display for ApicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "APIC id {}", self.0)
    }
}
