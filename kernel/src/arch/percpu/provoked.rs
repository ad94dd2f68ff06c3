//! What a CPU does on demand, for tests, and how far it has come: the data of [`crate::arch::provoke`].

use core::cell::Cell;
use core::sync::atomic::AtomicU32;

use crate::alternation::Alternation;
use crate::cmdline::{FailureKind, Place};

/// All off by default.
#[derive(Default)]
pub(in crate::arch) struct Provoked {
    /// How this CPU fails, and where.
    pub failure: Cell<Option<(Place, FailureKind)>>,
    /// How far the proof has come that NMIs do not nest; 0 while there is none.
    pub nesting: AtomicU32,
    /// What this CPU sends to the others at each tick.
    pub stress: InterruptStress,
    /// What recording costs, if that is measured.
    pub alternation: Alternation,
}

/// Interrupts that this CPU sends to the others.
#[derive(Default)]
pub(in crate::arch) struct InterruptStress {
    pub ipis: InterruptSource,
    pub nmis: InterruptSource,
    /// NMIs are expected until the run is over on all CPUs: others send them longer than this one.
    pub expected: Cell<bool>,
}

impl InterruptStress {
    /// Are NMIs part of the stress? Then one more need not be reported.
    #[must_use]
    pub fn expects_nmis(&self) -> bool {
        self.expected.get()
    }
}

/// One kind of interrupt, sent to the other CPUs in turn.
#[derive(Default)]
pub(in crate::arch) struct InterruptSource {
    /// How many a second; 0 is none.
    pub per_second: Cell<u32>,
    /// What is due, in parts of one interrupt, of which there are as many as ticks in a second.
    pub due: Cell<u32>,
    /// How many were sent.
    pub sent: Cell<u32>,
}
