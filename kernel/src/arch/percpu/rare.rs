//! What is rare and is reported outside of its handler: NMIs, and debug exceptions in ring 0.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

/// How often they came, and where the latest one interrupted.
#[derive(Default)]
pub struct Rare {
    /// Non-maskable interrupts so far. Atomic, as is the next: their handler writes them between any two instructions.
    nmis: AtomicU64,
    /// Where the latest one interrupted.
    nmi_rip: AtomicU64,
    /// How many of them were reported.
    nmis_reported: Cell<u64>,
    /// Debug exceptions from ring 0 so far, of which there should be none, and where the latest one interrupted.
    debugs: Cell<(u64, u64)>,
}

impl Rare {
    /// Counts an NMI, in its handler. Returns how many there have been.
    pub(in crate::arch) fn count_nmi(&self, rip: u64) -> u64 {
        self.nmi_rip.store(rip, Ordering::Relaxed);
        self.nmis.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Are there NMIs that were not reported?
    #[inline]
    pub(in crate::arch) fn has_new_nmis(&self) -> bool {
        self.nmis.load(Ordering::Relaxed) != self.nmis_reported.get()
    }

    /// How many NMIs are to be reported, and where the latest one interrupted; they count as reported from here on.
    pub(in crate::arch) fn take_nmis(&self) -> (u64, u64) {
        let taken = self.nmis.load(Ordering::Relaxed);
        (taken - self.nmis_reported.replace(taken), self.nmi_rip.load(Ordering::Relaxed))
    }

    /// Counts a debug exception from ring 0, in its handler.
    pub(in crate::arch) fn count_debug(&self, rip: u64) {
        self.debugs.set((self.debugs.get().0 + 1, rip));
    }

    /// Debug exceptions from ring 0 so far, and where the latest one interrupted.
    pub(in crate::arch) fn debugs(&self) -> (u64, u64) {
        self.debugs.get()
    }
}
