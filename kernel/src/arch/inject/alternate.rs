//! Turns this CPU's trace off and on periodically to measure the cost of recording. [`crate::alternation`] makes the
//! decisions.

use crate::alternation::Share;
use crate::arch::percpu::PerCpuData;

/// Handles a tick that interrupted ring 3: turns recording on or off if the period has ended.
#[inline]
pub(in crate::arch) fn ring3_tick(cpu: &PerCpuData) {
    if !cpu.injected.alternation.is_off() {
        alternate(cpu);
    }
}

#[cold]
#[inline(never)]
fn alternate(cpu: &PerCpuData) {
    let now = Share { calls: cpu.calls().iter().sum(), ns: cpu.clock_ns() };
    if let Some(on) = cpu.injected.alternation.tick(now) {
        cpu.switch_trace(on);
    }
}

/// Restarts the measurement. Called when a copy of the program is about to start.
pub fn program_starts(cpu: &PerCpuData) {
    cpu.injected.alternation.forget();
}
