//! The NMI nesting test: checks that an NMI does not run the NMI handler inside the handler, even if NMIs are unmasked
//! there.

use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use super::nmi_to_self::nmi_to_self;
use crate::arch::cpu::tsc;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;

// The states of the test on a CPU. The state is 0 before and after the test.
/// The next NMI is the first of two.
const ARMED: u32 = 1;
/// The first handler has sent the second NMI and is still running.
const INSIDE: u32 = 2;
/// The first handler is about to end; the second NMI has not arrived.
const HELD: u32 = 3;
/// The second NMI arrived after the first handler had finished.
const TAKEN: u32 = 4;

/// How long the first handler waits to see whether the second NMI arrives, which it must not, in TSC ticks. Enough for
/// about 10,000 instructions of 100 ticks each.
const WINDOW: u64 = 1 << 20;
/// The longest time the second NMI may take to arrive once NMIs are unmasked, in TSC ticks: at least half a second on
/// any CPU.
const TIMEOUT: u64 = 1 << 31;

/// Sends this CPU an NMI whose handler sends another NMI: first with NMIs masked, then after the handler has unmasked
/// them. Ends the run unless the second handler runs after the first has ended.
pub(super) fn nest(cpu: &PerCpuData) {
    let nesting = &cpu.injected.nesting;
    for unmasked in [false, true] {
        cpu.injected.nesting_unmasks.set(unmasked);
        nesting.store(ARMED, Ordering::Relaxed);
        nmi_to_self(cpu);
        if !wait_until(TIMEOUT, || nesting.load(Ordering::Relaxed) == TAKEN) {
            stop::end(format_args!("broken invariant on {}: an NMI was lost during another one", cpu.id()));
        }
        nesting.store(0, Ordering::Relaxed);
        let how = if unmasked { "with NMIs unmasked in the handler" } else { "with NMIs masked" };
        say!(cpu, "an NMI during an NMI was held back until the first had ended, and then taken: {how}");
    }
}

/// The part of the test that runs in the NMI handler.
#[inline]
pub(super) fn nmi(cpu: &PerCpuData, unmask: impl Fn()) {
    if cpu.injected.nesting.load(Ordering::Relaxed) != 0 {
        nested(cpu, unmask);
    }
}

#[cold]
fn nested(cpu: &PerCpuData, unmask: impl Fn()) {
    let nesting = &cpu.injected.nesting;
    match nesting.load(Ordering::Relaxed) {
        ARMED => {
            nesting.store(INSIDE, Ordering::Relaxed);
            if cpu.injected.nesting_unmasks.get() {
                unmask();
            }
            nmi_to_self(cpu);
            wait_until(WINDOW, || false);
            nesting.store(HELD, Ordering::Relaxed);
        }
        INSIDE => {
            stop::end(format_args!("broken invariant on {}: an NMI interrupted the NMI handler", cpu.id()))
        }
        _ => nesting.store(TAKEN, Ordering::Relaxed),
    }
}

/// Waits until the condition holds, for at most `ticks` TSC ticks. Returns whether it holds.
fn wait_until(ticks: u64, condition: impl Fn() -> bool) -> bool {
    let start = tsc::now();
    while !condition() {
        if tsc::now().wrapping_sub(start) >= ticks {
            return false;
        }
        spin_loop();
    }
    true
}
