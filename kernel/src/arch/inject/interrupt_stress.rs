//! Interrupt stress: CPUs send each other IPIs and NMIs at the rates set on the command line, so that the interrupts
//! arrive at as many different instructions as possible.

use kernel_abi::trace::{IPI_NMI, Kind};

use crate::arch::percpu::injected::InterruptSource;
use crate::arch::percpu::{self, PerCpuData};
use crate::tick_work::Work;

impl InterruptSource {
    /// Sends the interrupts that are due at this tick.
    fn tick(&self, tick_hz: u32, send: impl Fn(u32)) {
        let mut due = self.due.get() + self.per_second.get();
        while due >= tick_hz {
            due -= tick_hz;
            let sent = self.sent.get();
            send(sent);
            self.sent.set(sent.wrapping_add(1));
        }
        self.due.set(due);
    }
}

/// Sets both rates, in interrupts per second.
pub(super) fn set(cpu: &PerCpuData, ipis: u32, nmis: u32) {
    let stress = &cpu.injected.stress;
    stress.ipis.per_second.set(ipis);
    stress.nmis.per_second.set(nmis);
    stress.expected.set(nmis != 0);
    cpu.tick_work.set(Work::Stress, ipis | nmis != 0);
}

/// Stops sending. Called when this CPU's last copy has ended; other CPUs may still send.
pub fn programs_ended(cpu: &PerCpuData) {
    let stress = &cpu.injected.stress;
    stress.ipis.per_second.set(0);
    stress.nmis.per_second.set(0);
    cpu.tick_work.withdraw(Work::Stress);
}

/// Stops expecting NMIs. Called when all CPUs have stopped sending.
pub(super) fn all_programs_ended(cpu: &PerCpuData) {
    cpu.injected.stress.expected.set(false);
}

/// Sends the IPIs and NMIs that are due on this CPU at a tick. Called with interrupts off.
pub(super) fn tick(cpu: &PerCpuData, tick_hz: u32) {
    if !cpu.tick_work.has(Work::Stress) {
        return;
    }
    let stress = &cpu.injected.stress;
    // Send to the other CPUs in turn. If there is only one CPU, it sends to itself.
    let cpus = percpu::online();
    let target = |sent: u32| {
        let others = (cpus.len() as u32).checked_sub(1)?;
        let step = if others == 0 { 0 } else { 1 + sent % others };
        cpus.get(((cpu.id().0 + step) % cpus.len() as u32) as usize)
    };
    stress.ipis.tick(tick_hz, |sent| {
        if let Some(target) = target(sent) {
            cpu.wake(target.apic_id);
        }
    });
    stress.nmis.tick(tick_hz, |sent| {
        if let Some(target) = target(sent) {
            cpu.trace(Kind::IpiSent, IPI_NMI, target.apic_id.0.into());
            cpu.with_apic(|apic| apic.send_nmi(target.apic_id));
        }
    });
}
