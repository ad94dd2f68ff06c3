//! Injected bring-up faults: an AP that gets no start-up IPI, an AP that gets it too late, an AP whose registers do not
//! have their reset values, and CPUs that fail during bring-up.

use core::arch::asm;

use ap_trampoline::StopAt;
use x86_64::registers::debug::Dr7;
use x86_64::registers::model_specific::Msr;

use super::failures;
use crate::arch::cpu::machine_check;
use crate::arch::cpu::msr::IA32_DEBUGCTL;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::cmdline::{ApStop, Failures, Options, Place};

/// The CPUs with an injected fault, by their position in the list of CPUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApFaults {
    /// This CPU gets no start-up IPI.
    lose: Option<u32>,
    /// This CPU gets its start-up IPI after the slots are closed.
    delay: Option<u32>,
    /// This CPU starts, in each generation, with its registers as firmware may leave them.
    stale: Option<u32>,
    /// This CPU halts permanently, in this generation and at this stage.
    dies: Option<(u32, u32, ApStop)>,
    /// This CPU gets every start-up IPI twice.
    resend: Option<u32>,
    /// This CPU gets a start-up IPI while its area is being reused for the first time.
    early: Option<u32>,
    /// These CPUs fail during bring-up, or when they come back.
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
            dies: options.die_ap.map(|cpu| (cpu, u32::from(options.cycle.is_some()), options.die_in)),
            resend: options.resend_ap,
            early: options.early_ap,
            failures: Some(options.failures)
                .filter(|failures| matches!(failures.place, Place::BringUp | Place::ComeBack)),
        }
    }

    /// Stores in a CPU's data whether it must fail, halt in the kernel, or have stale registers in this generation. Called by
    /// the BSP, before that CPU runs.
    pub(in crate::arch) fn arm(&self, cpu: &PerCpuData) {
        cpu.injected.stale.set(self.stale == Some(cpu.area.0));
        let place = if cpu.generation == 0 { Place::BringUp } else { Place::ComeBack };
        if let Some(failures) = self.failures.filter(|failures| failures.place == place) {
            // Both places are the same code.
            failures::arm(cpu, cpu.area.0, &Failures { place: Place::BringUp, ..failures });
        }
        let stop = self.dies.filter(|dies| (dies.0, dies.1) == (cpu.area.0, cpu.generation));
        cpu.injected.stops_at.set(stop.map(|(_, _, stop)| stop));
    }

    /// Returns the place in the trampoline at which a CPU must halt.
    pub(in crate::arch) fn stop_in_trampoline(&self) -> Option<StopAt> {
        match self.dies?.2 {
            ApStop::RealMode => Some(StopAt::RealMode),
            ApStop::ProtectedMode => Some(StopAt::ProtectedMode),
            ApStop::LongMode => Some(StopAt::LongMode),
            ApStop::Claimed => Some(StopAt::Claimed),
            ApStop::Kernel | ApStop::SetUp => None,
        }
    }

    /// Returns whether this CPU must halt in the trampoline in this generation.
    pub(in crate::arch) fn stops_in_trampoline(&self, place: u32, generation: u32) -> bool {
        let is_this = |dies: (u32, u32, ApStop)| (dies.0, dies.1) == (place, generation);
        self.stop_in_trampoline().is_some() && self.dies.is_some_and(is_this)
    }

    /// Returns how many start-up IPIs this CPU gets at once.
    pub(in crate::arch) fn sipis(&self, place: u32) -> usize {
        if self.resend == Some(place) { 2 } else { 1 }
    }

    /// Returns whether this CPU gets a start-up IPI while its area is being reused. `generation` is the one before.
    pub(in crate::arch) fn gets_early_sipi(&self, place: u32, generation: u32) -> bool {
        self.early == Some(place) && generation == 0
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

/// Halts this CPU permanently if it must halt at this stage of its bring-up in the kernel.
pub(in crate::arch) fn stop_at(cpu: &PerCpuData, here: ApStop) {
    if cpu.injected.stops_at.get() == Some(here) {
        stop::park();
    }
}

/// Leaves this CPU's registers as firmware may leave them, if that is requested: a breakpoint at `breakpoint`,
/// single-stepping on branches (BTF), an error in a machine-check bank, and machine-check reporting disabled. Called
/// before the CPU sets itself up.
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
