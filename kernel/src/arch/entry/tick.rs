//! The timer interrupt.

use crate::arch::cpu::tsc;
use crate::arch::interrupts::timer;
use crate::arch::panic::rare;
use crate::arch::percpu::PerCpuData;
use crate::arch::provoke;

/// Counts the tick and does what is due with it.
#[inline]
pub(in crate::arch) fn tick(cpu: &PerCpuData) {
    let now = tsc::now();
    let timebase = timer::timebase();
    cpu.count_tick(now, timebase.tick_tsc);
    provoke::tick(cpu, timebase.tick_hz);
    rare::report_nmis(cpu);
}
