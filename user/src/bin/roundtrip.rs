//! Measures the round trip of the null system call on CPU 0, in ticks of the time-stamp counter: [CALLS].
//!
//! Under `run.sh --icount` the counter counts instructions. The result is then the length of the system-call path, plus
//! a few hundredths for the timer ticks during the measurement. The copies on other CPUs exit immediately.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use core::fmt;

use kernel_abi::syscall::SYS_NULL;
use user::{ExitCode, args, println, sys};

user::program!(run);

/// Default number of calls.
const DEFAULT_CALLS: u64 = 1_000_000;
/// Number of calls before the measurement, which bring the entire path into the caches.
const WARM_UP: u64 = 100;

fn run() -> ExitCode {
    let calls = match args().nth(1).map(args::number) {
        None => DEFAULT_CALLS,
        Some(Some(calls)) if (1..=u64::MAX / 1_000_000).contains(&calls) => calls,
        Some(_) => {
            println!("usage: roundtrip [CALLS]; CALLS must be at least 1");
            return ExitCode::USAGE;
        }
    };
    if sys::get_cpu() != 0 {
        return ExitCode::SUCCESS;
    }

    call_loop(WARM_UP);
    let ticks = measure(call_loop, calls);
    let empty = measure(empty_loop, calls);
    println!("roundtrip: {calls} calls, {} TSC ticks each, loop included", PerCall(ticks, calls));
    println!(
        "roundtrip: {calls} calls, {} TSC ticks each, loop subtracted",
        PerCall(ticks.saturating_sub(empty), calls)
    );
    ExitCode::SUCCESS
}

/// Returns the time-stamp counter ticks that `body` takes for `count` rounds.
fn measure(body: fn(u64), count: u64) -> u64 {
    // SAFETY: every x86-64 CPU has the counter, and Ringside permits it to ring 3 (CR4.TSD clear).
    let before = unsafe { _rdtsc() };
    body(count);
    // SAFETY: every x86-64 CPU has the counter, and Ringside permits it to ring 3 (CR4.TSD clear).
    unsafe { _rdtsc() }.wrapping_sub(before)
}

/// Makes `count` null system calls in the shortest loop that the ABI permits. `count` must not be 0.
fn call_loop(count: u64) {
    // SAFETY: SYS_NULL accesses no memory and preserves every register except rax, rcx and r11.
    unsafe {
        asm!(
            "2:",
            "mov eax, {number}",
            "syscall",
            "dec {count}",
            "jnz 2b",
            number = const SYS_NULL,
            count = inout(reg) count => _,
            out("rax") _,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
}

/// Runs the loop of [`call_loop`] without the system calls.
fn empty_loop(count: u64) {
    // SAFETY: changes only the two registers listed.
    unsafe {
        asm!(
            "2:",
            "mov eax, {number}",
            "dec {count}",
            "jnz 2b",
            number = const SYS_NULL,
            count = inout(reg) count => _,
            out("rax") _,
            options(nomem, nostack),
        );
    }
}

/// Prints a quotient rounded to two decimals. Programs have no floating point.
struct PerCall(u64, u64);

impl fmt::Display for PerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PerCall(ticks, calls) = *self;
        let hundredths = (u128::from(ticks) * 100 + u128::from(calls) / 2) / u128::from(calls);
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_rounded_to_hundredths() {
        for (ticks, calls, text) in [
            (0, 1, "0.00"),
            (1, 3, "0.33"),
            (2, 3, "0.67"),
            (104_995, 1000, "105.00"),
            (u64::MAX, 1, "18446744073709551615.00"),
        ] {
            assert_eq!(PerCall(ticks, calls).to_string(), text);
        }
    }
}
