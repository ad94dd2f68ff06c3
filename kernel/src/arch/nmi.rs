//! The non-maskable interrupt's handler, and the proof on demand that it is not interrupted by another one.
//!
//! An NMI stays masked until the next `iretq`, whichever that is. The handler has one, its own; so a second NMI waits,
//! and finds the stack free.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

use kernel_abi::trace::Kind;

use super::percpu::PerCpuData;
use super::{fail, idle, stop, tsc};
use crate::cmdline::Place;
use crate::frame::TrapFrame;

/// How far [`nest`] has come on this CPU.
#[derive(Default)]
pub(super) struct Nesting(AtomicU32);

impl Nesting {
    /// The next NMI is the first of two.
    const ARMED: u32 = 1;
    /// The first has sent the second, and has not ended.
    const INSIDE: u32 = 2;
    /// The first has ended.
    const HELD: u32 = 3;
    /// The second came after that.
    const TAKEN: u32 = 4;
}

/// How long the first handler waits for the second NMI, which must not come, in TSC ticks: some 10,000 instructions
/// even where one takes 100 ticks.
const LOOK_OUT: u64 = 1 << 20;
/// How long the second NMI may take once it is let in, in TSC ticks: half a second at the least on any CPU.
const PATIENCE: u64 = 1 << 31;

/// From the IST stack. Must not fault, print or wait: it may have struck while this CPU held any lock. What
/// [`fail`] and [`nest`] make it do are the exceptions, on demand.
pub(super) fn handle(frame: &mut TrapFrame, cpu: &PerCpuData) {
    stop::park_if_stopping(cpu);
    #[cfg(feature = "mutant-nmi-unmasked")]
    unmask();
    let rip = frame.interrupted.rip;
    let taken = cpu.count_nmi(rip);
    cpu.trace(Kind::Nmi, taken, rip);
    if cpu.nesting.0.load(Ordering::Relaxed) != 0 {
        nested(cpu);
    }
    fail::at(cpu, Place::Nmi);
    frame.interrupted.rip = idle::resume_after(rip);
}

/// Sends this CPU an NMI.
pub(super) fn to_self(cpu: &PerCpuData) {
    // A shared borrow: the NMI may strike inside of it, and its handler may come here.
    if let Some(apic) = cpu.apic.borrow().as_ref() {
        apic.send_nmi_to_self();
    }
}

/// Sends this CPU an NMI, whose handler sends another: the second must come, and not before the first has ended.
pub fn nest(cpu: &PerCpuData) {
    cpu.nesting.0.store(Nesting::ARMED, Ordering::Relaxed);
    to_self(cpu);
    if !comes_within(PATIENCE, || cpu.nesting.0.load(Ordering::Relaxed) == Nesting::TAKEN) {
        stop::end(format_args!("broken invariant on {}: an NMI got lost during another one", cpu.id()));
    }
    cpu.nesting.0.store(0, Ordering::Relaxed);
    say!(cpu, "an NMI during an NMI was held back until the first had ended, and then taken");
}

/// The handler's part.
#[cold]
fn nested(cpu: &PerCpuData) {
    match cpu.nesting.0.load(Ordering::Relaxed) {
        Nesting::ARMED => {
            cpu.nesting.0.store(Nesting::INSIDE, Ordering::Relaxed);
            to_self(cpu);
            comes_within(LOOK_OUT, || false);
            cpu.nesting.0.store(Nesting::HELD, Ordering::Relaxed);
        }
        Nesting::INSIDE => {
            stop::end(format_args!("broken invariant on {}: an NMI inside of the NMI's handler", cpu.id()))
        }
        _ => cpu.nesting.0.store(Nesting::TAKEN, Ordering::Relaxed),
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

/// What an exception in the handler would do: an `iretq`, here to the next instruction.
#[cfg(feature = "mutant-nmi-unmasked")]
fn unmask() {
    // SAFETY: goes on behind itself, with the stack pointer, flags and segments that it had.
    unsafe {
        core::arch::asm!(
            "mov {old}, rsp",
            "mov {word:e}, ss",
            "push {word}",
            "push {old}",
            "pushfq",
            "mov {word:e}, cs",
            "push {word}",
            "lea {word}, [rip + 2f]",
            "push {word}",
            "iretq",
            "2:",
            old = out(reg) _,
            word = out(reg) _,
        );
    }
}
