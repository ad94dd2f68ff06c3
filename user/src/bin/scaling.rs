//! Measures how many null system calls the CPUs make at the same time: [CPUS [MILLISECONDS]].
//!
//! The first CPUS CPUs (default: all) wait for each other, make calls for the given time (default 100), and then run the
//! same loop without calls for the same time. Each prints `scaling: CALLS NANOSECONDS LOOPS NANOSECONDS`. The other
//! copies exit immediately. The quotient of the rates does not depend on the speed of the host's CPUs.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use kernel_abi::syscall::SYS_NULL;
use user::{ExitCode, args, println, shared_page, sys};

user::program!(run);

/// The number of calls between two readings of the clock.
const CHUNK: u64 = 5_000;
/// The number of rounds of the empty loop between two readings of the clock. A round takes less time than a call.
const EMPTY_CHUNK: u64 = 20 * CHUNK;

fn run() -> ExitCode {
    let number = |n: usize, default| match args().nth(n).map(args::number) {
        None => Some(default),
        Some(number) => number,
    };
    let all = sys::cpu_count();
    let (Some(cpus), Some(ms @ 1..=60_000)) = (number(1, all), number(2, 100)) else {
        println!("usage: scaling [CPUS [MILLISECONDS]]; MILLISECONDS must be 1 to 60000");
        return ExitCode::USAGE;
    };
    if cpus == 0 || cpus > all {
        println!("scaling: there are {all} CPUs, so CPUS must be 1 to {all}");
        return ExitCode::USAGE;
    }
    if sys::get_cpu() >= cpus {
        return ExitCode::SUCCESS;
    }
    meet(0, cpus);
    let (calls, call_ns) = timed(ms, CHUNK, call_loop);
    // Without this, CPUs that still make calls would share the host with CPUs that already run the empty loop.
    meet(1, cpus);
    let (loops, loop_ns) = timed(ms, EMPTY_CHUNK, empty_loop);
    println!("scaling: {calls} {call_ns} {loops} {loop_ns}");
    ExitCode::SUCCESS
}

/// Waits until this many CPUs have arrived. Each `place` is used once.
fn meet(place: usize, cpus: u64) {
    let arrived = shared_page().word(place);
    arrived.fetch_add(1, Ordering::AcqRel);
    while arrived.load(Ordering::Acquire) < cpus {
        spin_loop();
    }
}

/// Runs `body` in chunks until `ms` milliseconds have passed. Returns the number of rounds and the nanoseconds.
fn timed(ms: u64, chunk: u64, body: fn(u64)) -> (u64, u64) {
    let start = sys::clock_ns();
    let mut rounds = 0;
    loop {
        body(chunk);
        rounds += chunk;
        let ns = sys::clock_ns() - start;
        if ns >= ms * 1_000_000 {
            return (rounds, ns);
        }
    }
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
