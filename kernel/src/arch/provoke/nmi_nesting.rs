//! The proof that the NMI's handler is not interrupted by another NMI.

use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use super::nmi_to_self::nmi_to_self;
use crate::arch::cpu::tsc;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;

// How far the proof has come on a CPU; 0 is not begun, or over.
/// The next NMI is the first of two.
const ARMED: u32 = 1;
/// The first has sent the second, and has not ended.
const INSIDE: u32 = 2;
/// The first has ended.
const HELD: u32 = 3;
/// The second came after that.
const TAKEN: u32 = 4;

/// How long the first handler waits for the second NMI, which must not come, in TSC ticks: some 10,000 instructions
/// even where one takes 100 ticks.
const WINDOW: u64 = 1 << 20;
/// How long the second NMI may take once it is let in, in TSC ticks: half a second at the least on any CPU.
const TIMEOUT: u64 = 1 << 31;

/// Sends this CPU an NMI, whose handler sends another: the second must come, and not before the first has ended.
pub(super) fn nest(cpu: &PerCpuData) {
    let nesting = &cpu.provoked.nesting;
    nesting.store(ARMED, Ordering::Relaxed);
    nmi_to_self(cpu);
    if !comes_within(TIMEOUT, || nesting.load(Ordering::Relaxed) == TAKEN) {
        stop::end(format_args!("broken invariant on {}: an NMI got lost during another one", cpu.id()));
    }
    nesting.store(0, Ordering::Relaxed);
    say!(cpu, "an NMI during an NMI was held back until the first had ended, and then taken");
}

/// The handler's part.
#[inline]
pub(super) fn nmi(cpu: &PerCpuData) {
    if cpu.provoked.nesting.load(Ordering::Relaxed) != 0 {
        nested(cpu);
    }
}

#[cold]
fn nested(cpu: &PerCpuData) {
    let nesting = &cpu.provoked.nesting;
    match nesting.load(Ordering::Relaxed) {
        ARMED => {
            nesting.store(INSIDE, Ordering::Relaxed);
            nmi_to_self(cpu);
            comes_within(WINDOW, || false);
            nesting.store(HELD, Ordering::Relaxed);
        }
        INSIDE => {
            stop::end(format_args!("broken invariant on {}: an NMI inside of the NMI's handler", cpu.id()))
        }
        _ => nesting.store(TAKEN, Ordering::Relaxed),
    }
}

/// Waits until the condition holds, at most so many TSC ticks. Does it?
fn comes_within(ticks: u64, condition: impl Fn() -> bool) -> bool {
    let start = tsc::now();
    while !condition() {
        if tsc::now().wrapping_sub(start) >= ticks {
            return false;
        }
        spin_loop();
    }
    true
}
