//! The handler of the timer interrupt.

use kernel_abi::trace::Kind;

use crate::arch::cpu::tsc;
use crate::arch::inject;
use crate::arch::interrupts::timer;
use crate::arch::panic::{check, rare};
use crate::arch::percpu::PerCpuData;
use crate::arch::task::ring3;
use crate::frame::InterruptFrame;
use crate::tick_work::Work;

/// Handles a tick that interrupted ring 3. Returns if ring 3 continues, else ends the program.
///
/// # Safety
/// Only [`tick_entry`](crate::arch::entry::points) may call this: on the syscall stack, whose top holds `interrupted`,
/// with the kernel GS base loaded and with `cpu` read from `gs:[0]`.
pub(super) unsafe extern "sysv64" fn tick_from_user(
    interrupted: *const InterruptFrame,
    cpu: *const PerCpuData,
) {
    // SAFETY: `interrupted` is the frame that the CPU has just pushed, and nothing else refers to it (invariant:
    // ONE-STACK). `cpu` is the first word at the GS base (invariant: GS-BASE).
    let (interrupted, cpu) = unsafe { (&*interrupted, &*cpu) };
    check::entry(cpu);
    tick::<true>(interrupted, cpu);
}

/// Handles a tick: sends the EOI, counts the tick, and does what else is wanted. If the tick interrupted ring 3
/// (`FROM_USER`), ends the program if it must end.
///
/// The EOI comes first: interrupts are off, so the next tick stays pending until this one has returned.
#[inline(always)]
pub(super) fn tick<const FROM_USER: bool>(interrupted: &InterruptFrame, cpu: &PerCpuData) {
    cpu.end_of_interrupt();
    if !cpu.tick_work.is_empty() {
        return with_work(interrupted, cpu);
    }
    cpu.count_tick(tsc::now());
    if FROM_USER {
        ring3::end_if_over_limit(cpu);
    }
}

/// The part of a tick after the EOI, if there is work other than counting.
#[cold]
#[inline(never)]
fn with_work(interrupted: &InterruptFrame, cpu: &PerCpuData) {
    let now = tsc::now();
    if cpu.tick_work.withdraw(Work::Measure) {
        cpu.count_first_tick(now);
    } else {
        cpu.count_tick(now);
    }
    inject::tick(cpu, timer::timebase().tick_hz);
    rare::report_nmis(cpu);
    cpu.trace(Kind::Tick, cpu.ticks(), interrupted.rip);
    if interrupted.from_user() {
        inject::ring3_tick(cpu);
        ring3::end_if_over_limit(cpu);
    }
}
