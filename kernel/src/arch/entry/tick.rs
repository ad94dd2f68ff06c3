//! The handler of the timer interrupt.

use crate::arch::cpu::tsc;
use crate::arch::inject;
use crate::arch::interrupts::timer;
use crate::arch::panic::rare;
use crate::arch::percpu::PerCpuData;

/// Handles a tick: counts it and reports new NMIs. If a test has requested failures or interrupts at ticks, injects or
/// sends them.
#[inline]
pub(in crate::arch) fn tick(cpu: &PerCpuData) {
    let now = tsc::now();
    let timebase = timer::timebase();
    cpu.count_tick(now, timebase.tick_tsc);
    inject::tick(cpu, timebase.tick_hz);
    rare::report_nmis(cpu);
}
