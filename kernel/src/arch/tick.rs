//! The timer interrupt.

use super::percpu::PerCpuData;
use super::{provoke, rare, timer, tsc};

/// Counts the tick and does what is due with it.
#[inline]
pub(super) fn tick(cpu: &PerCpuData) {
    let now = tsc::now();
    let timebase = timer::timebase();
    cpu.count_tick(now, timebase.tick_tsc);
    provoke::tick(cpu, timebase.tick_hz);
    rare::report_nmis(cpu);
}
