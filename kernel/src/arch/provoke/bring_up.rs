//! Injected bring-up faults: an AP that gets no start-up IPI, an AP that gets it too late, and CPUs that fail during
//! bring-up.

use super::failures;
use crate::arch::percpu;
use crate::cmdline::{Failures, Options, Place};

/// The CPUs with an injected fault, by their position in the list of CPUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApFaults {
    /// This CPU gets no start-up IPI.
    lose: Option<u32>,
    /// This CPU gets its start-up IPI after the slots are closed.
    delay: Option<u32>,
    /// These CPUs fail during bring-up.
    failures: Option<Failures>,
}

impl ApFaults {
    /// Returns the faults that the command line requests.
    #[must_use]
    pub fn of(options: &Options<'_>) -> ApFaults {
        ApFaults {
            lose: options.lose_ap,
            delay: options.delay_ap,
            failures: Some(options.failures).filter(|failures| failures.place == Place::BringUp),
        }
    }

    /// Stores in each CPU's data whether it must fail. Called by the BSP, before the other CPUs run.
    pub(in crate::arch) fn arm(&self) {
        if let Some(failures) = &self.failures {
            percpu::created().for_each(|cpu| failures::arm(cpu, cpu.area.0, failures));
        }
    }

    /// Returns whether this CPU gets a start-up IPI while the BSP waits for the APs.
    pub(in crate::arch) fn gets_sipi(&self, place: u32) -> bool {
        self.lose != Some(place) && self.delay != Some(place)
    }

    /// Returns whether this CPU gets its start-up IPI after the slots are closed.
    pub(in crate::arch) fn gets_late_sipi(&self, place: u32) -> bool {
        self.delay == Some(place)
    }
}
