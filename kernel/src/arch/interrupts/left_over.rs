//! The state that the firmware may leave in a local APIC: armed vectors, a task priority, and interrupts in service or
//! pending.

use super::apic::{LVT_MASKED, LocalApic};
use super::eoi::Eoi;

// Register offsets in the xAPIC page (SDM 3A, table 11-1; AMD's extended registers: APM 2, table 16-2).
const VERSION: u32 = 0x30;
const TASK_PRIORITY: u32 = 0x80;
/// The first of eight registers with one bit per vector: interrupts that are in service.
const IN_SERVICE: u32 = 0x100;
/// The first of eight registers with one bit per vector: interrupts that are pending.
const REQUESTED: u32 = 0x200;
const LVT_CMCI: u32 = 0x2f0;
const LVT_THERMAL: u32 = 0x330;
const LVT_PERFORMANCE: u32 = 0x340;
const EXTENDED_FEATURES: u32 = 0x400;
const LVT_EXTENDED: u32 = 0x500;

/// The highest priority that the task-priority register can hold: it blocks all interrupts.
const PRIORITY_MAX: u32 = 0xf0;

/// Returns the entries of the local vector table that this APIC has and the kernel does not use. A write to a missing
/// entry raises #GP in x2APIC mode. `version` is the value of the version register, whose bits 23:16 hold the number of
/// the last entry (SDM 3A, 11.4.8). Bit 31 reports AMD's extended registers, whose count `extended` reads (APM 2,
/// 16.3.7).
fn unused_entries(version: u32, extended: impl FnOnce() -> u32) -> impl Iterator<Item = u32> {
    let last = version >> 16 & 0xff;
    let extended = if version >> 31 != 0 { extended() >> 16 & 0xff } else { 0 };
    [(4, LVT_PERFORMANCE), (5, LVT_THERMAL), (6, LVT_CMCI)]
        .into_iter()
        .filter_map(move |(number, entry)| (number <= last).then_some(entry))
        .chain((0..extended).map(|number| LVT_EXTENDED + 0x10 * number))
}

impl LocalApic {
    /// Masks the entries of the local vector table that the kernel does not use.
    pub(super) fn mask_unused_entries(&self) {
        for entry in unused_entries(self.read(VERSION), || self.read(EXTENDED_FEATURES)) {
            self.write(entry, LVT_MASKED);
        }
    }

    /// Returns whether an interrupt with this vector is in service: it has been delivered, and its EOI has not been
    /// sent.
    #[must_use]
    pub fn is_in_service(&self, vector: u8) -> bool {
        self.read(IN_SERVICE + 0x10 * u32::from(vector / 32)) >> (vector % 32) & 1 != 0
    }

    /// Returns whether an interrupt is pending.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.any_of(REQUESTED)
    }

    /// Unblocks all interrupts: sends an EOI for each interrupt that is in service, and sets the task priority to 0.
    /// Returns the number of interrupts that were in service.
    pub fn end_left_over(&mut self) -> u32 {
        let mut ended = 0;
        // Each EOI completes one interrupt, and there are at most 256.
        while ended < 256 && self.any_of(IN_SERVICE) {
            Eoi::of(self).send();
            ended += 1;
        }
        self.write(TASK_PRIORITY, 0);
        ended
    }

    /// Sets a task priority that blocks all interrupts, as firmware may leave it.
    pub(in crate::arch) fn leave_task_priority(&self) {
        self.write(TASK_PRIORITY, PRIORITY_MAX);
    }

    /// Returns whether a bit of the eight registers from `first` on is set.
    fn any_of(&self, first: u32) -> bool {
        (0..8).any(|n| self.read(first + 0x10 * n) != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn every_entry_that_the_apic_has_and_the_kernel_does_not_use_is_masked() {
        let of = |version, extended| unused_entries(version, || extended).collect::<Vec<_>>();
        assert_eq!(of(0x0003_0010, 0x4_0000), []);
        assert_eq!(of(0x0005_0014, 0x4_0000), [0x340, 0x330]);
        assert_eq!(of(0x0106_0015, 0x4_0000), [0x340, 0x330, 0x2f0]);
        assert_eq!(of(0x8105_0010, 0x4_0007), [0x340, 0x330, 0x500, 0x510, 0x520, 0x530]);
    }
}
