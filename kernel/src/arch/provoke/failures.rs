//! Failures on demand, for tests to see that each ends in a report: a panic, a stack that overflows, a double fault, in
//! whatever the command line names.
//!
//! Nothing here is on the way of a system call but `SYS_EXIT`'s: who fails in a call does so in that one.

use core::arch::asm;
use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicBool, Ordering};

use super::nmi_to_self::nmi_to_self;
use crate::arch::devices::serial;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::cmdline::{FailureKind, Failures, Place};

/// A CPU has the console's lock and keeps it.
static CONSOLE_HELD: AtomicBool = AtomicBool::new(false);

/// Tells a CPU, known by this number, what it has to do wrong. By its owner, or by the BSP before the CPU runs.
pub(super) fn arm(cpu: &PerCpuData, number: u32, failures: &Failures) {
    cpu.provoked.failure.set(failures.of(number).map(|kind| (failures.place, kind)));
}

/// Fails if this CPU was told to fail here.
#[inline]
pub fn at(cpu: &PerCpuData, here: Place) {
    if let Some((place, kind)) = cpu.provoked.failure.get()
        && place == here
    {
        now(cpu, kind);
    }
}

/// What has to be arranged before a program starts: fails there, sees to the NMI, or takes the console's lock.
pub(super) fn before_program(cpu: &PerCpuData, failures: &Failures) {
    let number = cpu.id().0;
    arm(cpu, number, failures);
    if failures.holds_console(number, cpu.cpus_online()) {
        serial::with_lock(|| {
            CONSOLE_HELD.store(true, Ordering::Release);
            // Until the failing CPU's NMI: it stops this one for good.
            loop {
                spin_loop();
            }
        });
    }
    match cpu.provoked.failure.get() {
        Some((Place::ConsoleHeld, kind)) => {
            // It ends: the next CPU is past the same gate.
            while !CONSOLE_HELD.load(Ordering::Acquire) {
                stop::park_if_stopping(cpu);
                spin_loop();
            }
            now(cpu, kind)
        }
        Some((Place::Console, kind)) => serial::with_lock(|| now(cpu, kind)),
        Some((Place::Nmi, _)) => nmi_to_self(cpu),
        Some((Place::Idle, _)) | None => {}
        Some(_) => at(cpu, Place::Start),
    }
}

#[cold]
fn now(cpu: &PerCpuData, kind: FailureKind) -> ! {
    match kind {
        FailureKind::Panic => panic!("panic_cpu={} on the command line asked for this", cpu.id().0),
        FailureKind::Overflow => overflow_stack(),
        // SAFETY: the exception finds no stack, nor does the page fault that this is: what follows is a double fault,
        // whose handler does not come back.
        FailureKind::DoubleFault => unsafe { asm!("xor esp, esp", "ud2", options(noreturn)) },
    }
}

/// Runs off this CPU's stack, on demand: the proof that the guard page, the double fault's own stack and its report
/// work.
fn overflow_stack() -> ! {
    /// Each call takes some more of the stack, and there is no last one.
    #[expect(unconditional_recursion, reason = "that is the point")]
    #[inline(never)]
    fn recurse(depth: u64) -> u64 {
        let block = black_box([depth; 32]);
        recurse(depth + 1).wrapping_add(block[0])
    }
    stop::end(format_args!("the stack has no end: {}", recurse(0)))
}
