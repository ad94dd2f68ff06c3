//! Tests that a panicking CPU waits until every other CPU has stopped, even if one of them parks twice. A second CPU
//! panics after the first has started its report, and the NMI of the first CPU wakes the second in its park loop.
//! Meanwhile a third CPU holds the console lock with NMIs masked.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

use super::nmi_to_self::nmi_to_self;
use crate::arch::cpu::tsc;
use crate::arch::devices::serial;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::cmdline::{Failures, SecondPanicRole};

/// Set once the third CPU has taken the console lock.
static CONSOLE_HELD: AtomicBool = AtomicBool::new(false);

/// How long the third CPU holds the lock after a CPU has panicked, in TSC ticks. It is long enough for the second CPU
/// to take the NMI, and much shorter than the panicking CPU's wait.
const HOLD: u64 = 1 << 24;

/// Plays this CPU's role in the test. The first CPU returns, and then panics like any other failing CPU.
pub(super) fn before_program(cpu: &PerCpuData, failures: &Failures) {
    match failures.second_panic_role(cpu.id().0, cpu.cpus_online()) {
        None => {}
        Some(SecondPanicRole::First) => {
            cpu.injected.awaits_second_panic.set(true);
            // This wait is bounded: the CPU that takes the lock has passed the same gate as this CPU.
            spin_until(|| CONSOLE_HELD.load(Ordering::Acquire));
        }
        Some(SecondPanicRole::Second) => {
            spin_until(stop::is_panicking);
            panic!("a second panic");
        }
        Some(SecondPanicRole::Holder) => {
            cpu.injected.holds_console.set(true);
            nmi_to_self(cpu);
        }
    }
}

/// The role of the third CPU in its NMI handler.
#[inline]
pub(super) fn nmi(cpu: &PerCpuData) {
    if cpu.injected.holds_console.get() {
        hold_console(cpu);
    }
}

/// Holds the console lock until it is bypassed or `HOLD` has passed since a panic, and then stops.
#[cold]
fn hold_console(cpu: &PerCpuData) {
    let kept = serial::with_lock(|| {
        CONSOLE_HELD.store(true, Ordering::Release);
        spin_until(stop::is_panicking);
        let start = tsc::now();
        spin_until(|| serial::is_bypassed() || tsc::now().wrapping_sub(start) >= HOLD);
        !serial::is_bypassed()
    });
    // The panicking CPU is still waiting for this one. If it has bypassed the lock, it may end the run at any time.
    if kept {
        say!(cpu, "this CPU held the console's lock for the full time, because the panic did not bypass it");
    }
    stop::park_if_stopping(cpu);
}

fn spin_until(condition: impl Fn() -> bool) {
    while !condition() {
        spin_loop();
    }
}
