//! The state of a CPU's test hooks: the data of [`crate::arch::provoke`].

use core::cell::Cell;
use core::sync::atomic::AtomicU32;

use crate::alternation::Alternation;
use crate::cmdline::{FailureKind, Place};

/// The state of a CPU's test hooks. By default all are off.
#[derive(Default)]
pub(in crate::arch) struct Provoked {
    /// The failure to inject on this CPU, and where.
    pub failure: Cell<Option<(Place, FailureKind)>>,
    /// This CPU holds the console's lock in its NMI handler.
    pub holds_console: Cell<bool>,
    /// This CPU, if it panics, waits for another one to panic before it stops the others.
    pub awaits_second_panic: Cell<bool>,
    /// The progress of the test that NMIs do not nest; 0 if it does not run.
    pub nesting: AtomicU32,
    /// The interrupts that this CPU sends to the others at each tick.
    pub stress: InterruptStress,
    /// The measurement of the cost of recording, if it is requested.
    pub alternation: Alternation,
}

/// Interrupts that this CPU sends to the others.
#[derive(Default)]
pub(in crate::arch) struct InterruptStress {
    pub ipis: InterruptSource,
    pub nmis: InterruptSource,
    /// NMIs are expected until the run has ended on all CPUs: others may send them longer than this one.
    pub expected: Cell<bool>,
}

impl InterruptStress {
    /// Whether NMIs are part of the stress. If so, they are not reported.
    #[must_use]
    pub fn expects_nmis(&self) -> bool {
        self.expected.get()
    }
}

/// One kind of interrupt, sent to the other CPUs in turn.
#[derive(Default)]
pub(in crate::arch) struct InterruptSource {
    /// How many are sent per second; 0 is none.
    pub per_second: Cell<u32>,
    /// The part of an interrupt that is due, in units of one interrupt divided by the ticks per second.
    pub due: Cell<u32>,
    /// How many have been sent.
    pub sent: Cell<u32>,
}
