//! Waiting without spinning: the only place where ring 0 has interrupts on.

use kernel_abi::trace::Kind;
use x86_64::instructions::interrupts;

use super::percpu::PerCpuData;

/// Halts this CPU until the condition holds. It is looked at with interrupts off, and `sti` takes effect only
/// after the `hlt` behind it has begun (SDM 2B, STI), so that no wake-up falls in between. Whoever makes the
/// condition true sends an interrupt; the tick does as well.
pub fn idle_until(cpu: &PerCpuData, condition: impl Fn() -> bool) {
    while !condition() {
        cpu.trace(Kind::IdleIn, 0, 0);
        interrupts::enable_and_hlt();
        interrupts::disable();
        cpu.trace(Kind::IdleOut, 0, 0);
        cpu.report_nmis();
    }
}

/// Halts this CPU for good, but for interrupts.
pub fn idle(cpu: &PerCpuData) -> ! {
    idle_until(cpu, || false);
    unreachable!("the condition never holds")
}
