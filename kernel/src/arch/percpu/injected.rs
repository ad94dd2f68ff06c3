//! The state of a CPU's test hooks: the data of [`crate::arch::inject`].

use core::cell::Cell;
use core::sync::atomic::AtomicU32;

use crate::alternation::Alternation;
use crate::cmdline::{ApStop, FailureKind, Place};

/// The state of a CPU's test hooks. By default all are off.
#[derive(Default)]
pub(in crate::arch) struct Injected {
    /// The failure to inject on this CPU, and the place where it is injected.
    pub failure: Cell<Option<(Place, FailureKind)>>,
    /// Whether this CPU must hold the console lock in its NMI handler.
    pub holds_console: Cell<bool>,
    /// Whether this CPU, when it panics, waits for a second CPU to panic before it stops the others.
    pub awaits_second_panic: Cell<bool>,
    /// Whether this CPU's registers are set as firmware may leave them, before the CPU initialises itself.
    pub stale: Cell<bool>,
    /// The stage of its bring-up at which this CPU halts permanently, if it is a stage in the kernel.
    pub stops_at: Cell<Option<ApStop>>,
    /// Whether this CPU sends no EOI for a stray interrupt.
    pub keeps_in_service: Cell<bool>,
    /// The state of the NMI nesting test; 0 while the test does not run.
    pub nesting: AtomicU32,
    /// Whether the first handler of that test unmasks NMIs.
    pub nesting_unmasks: Cell<bool>,
    /// The interrupts that this CPU sends to the others at each tick.
    pub stress: InterruptStress,
    /// The measurement of the cost of recording, if it is requested.
    pub alternation: Alternation,
    /// The system-call entry point that `floor=` has replaced, and after how many ticks it is restored.
    pub floor: Cell<Option<(u64, u32)>>,
}

/// Interrupts that this CPU sends to the others.
#[derive(Default)]
pub(in crate::arch) struct InterruptStress {
    pub ipis: InterruptSource,
    pub nmis: InterruptSource,
    /// Whether NMIs are expected. They are until the run has ended on all CPUs, because other CPUs may still send NMIs
    /// after this CPU has stopped.
    pub expected: Cell<bool>,
}

impl InterruptStress {
    /// Returns whether the stress test sends NMIs. Expected NMIs are not reported.
    #[must_use]
    pub fn expects_nmis(&self) -> bool {
        self.expected.get()
    }
}

/// A source of stress interrupts of one kind, which are sent to the other CPUs in turn.
#[derive(Default)]
pub(in crate::arch) struct InterruptSource {
    /// The number to send per second; 0 disables the source.
    pub per_second: Cell<u32>,
    /// The fraction of an interrupt that is due and not yet sent, in units of 1 / (ticks per second).
    pub due: Cell<u32>,
    /// The number sent so far.
    pub sent: Cell<u32>,
}
