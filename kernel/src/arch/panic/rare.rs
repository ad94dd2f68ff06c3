//! Deferred reports of NMIs, debug exceptions in ring 0 and stray interrupts, whose handlers must not print.

use crate::arch::percpu::PerCpuData;
use crate::tick_work::Work;

/// Reports the NMIs since the last report, unless the NMI stress test sends them or this CPU's UART is in use.
pub fn report_nmis(cpu: &PerCpuData) {
    if !cpu.tick_work.has(Work::ReportNmis) || cpu.injected.stress.expects_nmis() || cpu.printing.get() {
        return;
    }
    let (count, rip) = cpu.rare.nmis.take(&cpu.tick_work);
    // The previous report may include an NMI that arrived while it was being prepared and requested a report too.
    if count != 0 {
        say!(cpu, "{count} NMI, the latest at RIP {rip:#x}");
    }
}

/// Reports debug exceptions in ring 0, if there were any. SFMASK clears TF, so ring 0 should never be single-stepped.
/// `syscall_entry` is the address of the first instruction of the system-call entry.
pub fn report_debugs(cpu: &PerCpuData, syscall_entry: u64) {
    let (taken, rip) = cpu.rare.debugs();
    if taken != 0 {
        let place =
            if rip == syscall_entry { ", the first instruction of the system-call entry" } else { "" };
        warn!(cpu, "{taken} #DB in ring 0, the latest at RIP {rip:#x}{place}");
    }
}

/// Reports the stray interrupts of this CPU, if there were any.
pub fn report_strays(cpu: &PerCpuData) {
    let (taken, vectors) = cpu.rare.take_strays();
    if taken != 0 {
        warn!(cpu, "{taken} interrupts with vectors that the kernel does not use: {vectors}");
    }
}
