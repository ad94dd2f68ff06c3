//! Measures the null system call's round trip on CPU 0, in ticks of the time-stamp counter: [CALLS].
//!
//! Under `run.sh --icount` the counter counts instructions: the figure is the length of the road, to which only the
//! ticks that fall into the measurement add some hundredths. The other CPUs exit at once and take no part in it.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use core::fmt;

use kernel_abi::syscall::SYS_NULL;
use user::{ExitCode, args, println, sys};

user::program!(run);

/// Calls measured unless told otherwise.
const DEFAULT_CALLS: u64 = 1_000_000;
/// Calls made before the measurement, so that all of the road has been gone.
const WARM_UP: u64 = 100;

fn run() -> ExitCode {
    let calls = match args().nth(1).map(args::number) {
        None => DEFAULT_CALLS,
        Some(Some(calls)) if (1..=u64::MAX / 1_000_000).contains(&calls) => calls,
        Some(_) => {
            println!("usage: roundtrip [CALLS], CALLS from 1");
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

/// Ticks of the time-stamp counter that `body` takes for `count` rounds.
fn measure(body: fn(u64), count: u64) -> u64 {
    // SAFETY: every x86-64 CPU has the counter, and Ringside leaves it open to ring 3 (CR4.TSD off).
    let before = unsafe { _rdtsc() };
    body(count);
    // SAFETY: as above.
    unsafe { _rdtsc() }.wrapping_sub(before)
}

/// `count` null system calls, in the shortest loop that the ABI allows; `count` is not 0.
fn call_loop(count: u64) {
    // SAFETY: SYS_NULL touches no memory and keeps every register but rax, rcx and r11.
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

/// The loop around [`call_loop`]'s system calls, without them.
fn empty_loop(count: u64) {
    // SAFETY: touches its two registers only.
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

/// Prints a quotient with two decimals, rounded: ring 3 here has no floating point.
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
