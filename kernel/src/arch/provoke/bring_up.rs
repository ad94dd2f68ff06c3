//! Faults during bring-up: an AP that is never called, one that is called too late, and one that fails on its way.

use super::failures;
use crate::arch::percpu;
use crate::cmdline::{Failures, Options, Place};

/// Which, by place in the list of CPUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApFaults {
    /// This CPU gets no start-up IPI.
    lose: Option<u32>,
    /// This one gets it after the slots are closed.
    delay: Option<u32>,
    /// These fail on their way.
    failures: Option<Failures>,
}

impl ApFaults {
    /// What the command line asks for.
    #[must_use]
    pub fn of(options: &Options<'_>) -> ApFaults {
        ApFaults {
            lose: options.lose_ap,
            delay: options.delay_ap,
            failures: Some(options.failures).filter(|failures| failures.place == Place::BringUp),
        }
    }

    /// Prepares the CPUs that are to fail. By the BSP, before they run.
    pub(in crate::arch) fn arm(&self) {
        if let Some(failures) = &self.failures {
            percpu::created().for_each(|cpu| failures::arm(cpu, cpu.area.0, failures));
        }
    }

    /// Is this CPU called while the BSP waits for it?
    pub(in crate::arch) fn is_called(&self, place: u32) -> bool {
        self.lose != Some(place) && self.delay != Some(place)
    }

    /// Is this CPU called when it is too late?
    pub(in crate::arch) fn is_called_late(&self, place: u32) -> bool {
        self.delay == Some(place)
    }
}
