//! What recording costs: this CPU's trace is switched off and on in turn, as [`crate::alternation`] decides.

use crate::alternation::Share;
use crate::arch::percpu::PerCpuData;

/// A tick in ring 3: recording is switched off and on if it is time for that.
pub(in crate::arch) fn ring3_tick(cpu: &PerCpuData) {
    let alternation = &cpu.provoked.alternation;
    if alternation.is_off() {
        return;
    }
    let now = Share { calls: cpu.calls().iter().sum(), ns: cpu.clock_ns() };
    if let Some(on) = alternation.tick(now) {
        cpu.tracer.switch(on);
    }
}

/// A copy of the program is about to start.
pub fn program_starts(cpu: &PerCpuData) {
    cpu.provoked.alternation.forget();
}
