//! Turns this CPU's trace off and on periodically to measure the cost of recording. [`crate::alternation`] makes the
//! decisions.

use crate::alternation::Share;
use crate::arch::percpu::PerCpuData;
use crate::tick_work::Work;

/// Handles a tick that interrupted ring 3: turns recording on or off if the period has ended.
pub(super) fn ring3_tick(cpu: &PerCpuData) {
    if cpu.injected.alternation.is_off() {
        return;
    }
    let now = Share { calls: cpu.calls().iter().sum(), ns: cpu.clock_ns() };
    if let Some(on) = cpu.injected.alternation.tick(now) {
        cpu.switch_trace(on);
    }
}

/// Sets the period in nanoseconds; 0 if recording is never switched.
pub(super) fn set_period(cpu: &PerCpuData, ns: u64) {
    cpu.injected.alternation.set_period(ns);
    cpu.tick_work.set(Work::Alternate, ns != 0);
}

/// Restarts the measurement. Called when a copy of the program is about to start.
pub fn program_starts(cpu: &PerCpuData) {
    cpu.injected.alternation.forget();
}
