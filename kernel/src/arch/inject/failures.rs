//! Injected failures, to test that each is reported: a panic, a stack overflow or a double fault. The command line
//! selects the failure and the place.
//!
//! `SYS_EXIT` is the only system call that runs any of this code. A CPU that must fail in a system call fails there.

use core::arch::asm;
use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicBool, Ordering};

use super::nmi_to_self::nmi_to_self;
use crate::arch::devices::serial;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::cmdline::{FailureKind, Failures, Place};
use crate::tick_work::Work;

/// Set once a CPU has taken the console lock and keeps it.
static CONSOLE_HELD: AtomicBool = AtomicBool::new(false);

/// Stores the failure that the command line requests for the CPU with this index. Called by that CPU, or by the BSP
/// before that CPU runs.
pub(super) fn arm(cpu: &PerCpuData, number: u32, failures: &Failures) {
    let failure = failures.of(number).map(|kind| (failures.place, kind));
    cpu.injected.failure.set(failure);
    cpu.tick_work.set(Work::Fail, failure.is_some_and(|(place, _)| place == Place::Tick));
}

/// Fails if this CPU must fail at this place.
#[inline]
pub fn at(cpu: &PerCpuData, here: Place) {
    if let Some((place, kind)) = cpu.injected.failure.get()
        && place == here
    {
        now(cpu, kind);
    }
}

/// Prepares or injects the failure before a program starts: fails immediately, sends the NMI in whose handler this CPU
/// fails, or takes the console lock.
pub(super) fn before_program(cpu: &PerCpuData, failures: &Failures) {
    let number = cpu.id().0;
    arm(cpu, number, failures);
    if failures.holds_console(number, cpu.cpus_online()) {
        serial::with_lock(|| {
            CONSOLE_HELD.store(true, Ordering::Release);
            // Hold the lock until the NMI of the failing CPU parks this CPU.
            loop {
                spin_loop();
            }
        });
    }
    match cpu.injected.failure.get() {
        Some((Place::ConsoleHeld, kind)) => {
            // This wait is bounded: the CPU that takes the lock has passed the same gate as this CPU.
            while !CONSOLE_HELD.load(Ordering::Acquire) {
                stop::park_if_stopping(cpu);
                spin_loop();
            }
            now(cpu, kind)
        }
        Some((Place::Console, kind)) => serial::with_lock(|| now(cpu, kind)),
        Some((Place::SecondPanic, kind)) => now(cpu, kind),
        Some((Place::Nmi, _)) => nmi_to_self(cpu),
        Some((Place::Idle, _)) | None => {}
        Some(_) => at(cpu, Place::Start),
    }
}

#[cold]
fn now(cpu: &PerCpuData, kind: FailureKind) -> ! {
    match kind {
        FailureKind::Panic => panic!("requested by panic_cpu={} on the command line", cpu.id().0),
        FailureKind::Overflow => overflow_stack(),
        // SAFETY: with rsp = 0 the CPU cannot push the frame of #UD, nor that of the resulting #PF. So it raises #DF,
        // which has an IST stack and whose handler does not return.
        FailureKind::DoubleFault => unsafe { asm!("xor esp, esp", "ud2", options(noreturn)) },
    }
}

/// Overflows this CPU's stack, to test the guard page, the IST stack of #DF and the #DF report.
fn overflow_stack() -> ! {
    /// Uses stack space and calls itself.
    #[expect(unconditional_recursion, reason = "the stack must overflow")]
    #[inline(never)]
    fn recurse(depth: u64) -> u64 {
        let block = black_box([depth; 32]);
        recurse(depth + 1).wrapping_add(block[0])
    }
    stop::end(format_args!("the stack did not overflow: {}", recurse(0)))
}
