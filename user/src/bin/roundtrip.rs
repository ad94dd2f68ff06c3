//! Measures the round trip of the null system call on CPU 0, in ticks of the time-stamp counter: [CALLS [TICKS]]. With
//! TICKS, also measures this many timer ticks from ring 3 and back.
//!
//! Under `run.sh --icount` the counter counts instructions. The results are then the lengths of the two paths, plus a
//! few hundredths of an instruction for the timer ticks during the measurement of the calls. The copies on other CPUs
//! exit immediately.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use core::fmt;

use kernel_abi::syscall::SYS_NULL;
use user::{ExitCode, args, println, sys, tsc};

user::program!(run);

/// Default number of calls.
const DEFAULT_CALLS: u64 = 1_000_000;
/// Number of calls before the measurement, which bring the entire path into the caches.
const WARM_UP: u64 = 100;

fn run() -> ExitCode {
    let count = |place, default| match args().nth(place).map(args::number) {
        None => Some(default),
        Some(number) => number.filter(|number| (1..=u64::MAX / 1_000_000).contains(number)),
    };
    let (Some(calls), Some(timer_ticks), None) = (count(1, DEFAULT_CALLS), count(2, 0), args().nth(3)) else {
        println!("usage: roundtrip [CALLS [TICKS]]; both must be at least 1");
        return ExitCode::USAGE;
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
    if timer_ticks != 0 {
        let (least, sum) = measure_timer(timer_ticks);
        println!(
            "roundtrip: {timer_ticks} timer ticks, at least {least} TSC ticks each, {} on average, loop subtracted",
            PerCall(sum, timer_ticks)
        );
    }
    ExitCode::SUCCESS
}

/// Measures timer ticks that interrupt a loop in ring 3. Returns the TSC ticks of the shortest timer tick, and those of
/// all timer ticks together.
fn measure_timer(count: u64) -> (u64, u64) {
    let usual = (0..WARM_UP).map(|_| tsc::last_round(2, u64::MAX)).fold(u64::MAX, u64::min);
    (0..count).fold((u64::MAX, 0), |(least, sum), _| {
        // A round of the loop that takes far longer than usual contains an interrupt.
        let tick = tsc::last_round(u64::MAX, usual * 4).saturating_sub(usual);
        (least.min(tick), sum + tick)
    })
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
