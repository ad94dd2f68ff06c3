//! Injected bring-up faults: an AP that gets no start-up IPI, an AP that gets it too late, an AP whose registers do not
//! have their reset values, and CPUs that fail during bring-up.

use core::arch::asm;

use x86_64::registers::debug::Dr7;
use x86_64::registers::model_specific::Msr;

use super::failures;
use crate::arch::cpu::machine_check;
use crate::arch::cpu::msr::IA32_DEBUGCTL;
use crate::arch::percpu::PerCpuData;
use crate::cmdline::{Failures, Options, Place};

/// The CPUs with an injected fault, by their position in the list of CPUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApFaults {
    /// This CPU gets no start-up IPI.
    lose: Option<u32>,
    /// This CPU gets its start-up IPI after the slots are closed.
    delay: Option<u32>,
    /// This CPU starts with its registers as firmware may leave them.
    stale: Option<u32>,
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
            stale: options.stale_ap,
            failures: Some(options.failures).filter(|failures| failures.place == Place::BringUp),
        }
    }

    /// Stores in a CPU's data whether it must fail or have stale registers. Called by the BSP, before that CPU runs.
    pub(in crate::arch) fn arm(&self, cpu: &PerCpuData) {
        if let Some(failures) = &self.failures {
            failures::arm(cpu, cpu.area.0, failures);
        }
        cpu.injected.stale.set(self.stale == Some(cpu.area.0));
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

/// Leaves this CPU's registers as firmware may leave them, if that is requested: a breakpoint at `breakpoint`, single steps
/// from branch to branch, an error in a machine-check bank, and no reports of machine checks. Called before the CPU sets itself up.
pub(in crate::arch) fn stale_registers(cpu: &PerCpuData, breakpoint: u64) {
    /// Breakpoint 0 is enabled, for the execution of an instruction (SDM 3B, 18.2.4).
    const DR7_L0: u64 = 1 << 0;
    /// DEBUGCTL: TF steps to the next branch (SDM 3B, 18.4.1).
    const BTF: u64 = 1 << 1;

    if !cpu.injected.stale.get() {
        return;
    }
    // SAFETY: a breakpoint raises #DB, which returns to ring 0. DEBUGCTL acts on TF alone, which is clear. Emulators
    // allow the write to the bank; on real CPUs it faults, and ends this test.
    unsafe {
        asm!("mov dr0, {}", in(reg) breakpoint, options(nomem, nostack, preserves_flags));
        Dr7::write_raw(Dr7::read_raw() | DR7_L0);
        Msr::new(IA32_DEBUGCTL).write(BTF);
        machine_check::leave_stale();
    }
}
