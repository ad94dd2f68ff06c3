//! Rare exceptions and interrupts, which may be reported after their handlers: NMIs, debug exceptions in ring 0, errors
//! of the local APIC, and stray interrupts.

use core::cell::Cell;

use crate::stray::Vectors;
use crate::tick_work::Nmis;

/// The number of each exception, and the RIP that the last one interrupted.
pub struct Rare {
    /// The NMIs. Their handler may change the state between any two instructions.
    pub(in crate::arch) nmis: Nmis,
    /// The number of debug exceptions from ring 0 so far (normally 0), and the RIP that the last one interrupted.
    debugs: Cell<(u64, u64)>,
    /// Errors of the local APIC that have not been reported, as bits of its error status register.
    apic_errors: Cell<Option<u8>>,
    /// The number of stray interrupts since the last report, and their vectors.
    strays: Cell<(u64, Vectors)>,
}

impl Rare {
    /// Creates the state before the first exception.
    pub(super) fn new() -> Rare {
        Rare {
            nmis: Nmis::new(),
            debugs: Cell::default(),
            apic_errors: Cell::default(),
            strays: Cell::default(),
        }
    }

    /// Adds errors of the local APIC to those that have not been reported.
    pub(in crate::arch) fn add_apic_errors(&self, errors: u8) {
        self.apic_errors.set(Some(self.apic_errors.get().unwrap_or(0) | errors));
    }

    /// Returns the unreported errors of the local APIC, if an error interrupt has arrived, and marks them as reported.
    pub(in crate::arch) fn take_apic_errors(&self) -> Option<u8> {
        self.apic_errors.take()
    }

    /// Counts a debug exception from ring 0, in its handler.
    pub(in crate::arch) fn count_debug(&self, rip: u64) {
        self.debugs.set((self.debugs.get().0 + 1, rip));
    }

    /// Returns the number of debug exceptions from ring 0 so far, and the RIP that the last one interrupted.
    pub(in crate::arch) fn debugs(&self) -> (u64, u64) {
        self.debugs.get()
    }

    /// Counts a stray interrupt, in its handler.
    pub(in crate::arch) fn count_stray(&self, vector: u8) {
        let (count, mut vectors) = self.strays.get();
        vectors.insert(vector);
        self.strays.set((count + 1, vectors));
    }

    /// Returns the number of stray interrupts since the last call, and their vectors.
    pub(in crate::arch) fn take_strays(&self) -> (u64, Vectors) {
        self.strays.take()
    }
}
