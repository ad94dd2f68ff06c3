//! Measures how many null system calls the CPUs make at the same time: [CPUS [MILLISECONDS]].
//!
//! The first CPUS CPUs (default: all) take turns, several times: CPU 0 makes calls alone, all make calls, CPU 0 runs the
//! same loop without calls alone, and all run it. Each part takes the given time (default 25), and starts at the same
//! time on all CPUs. The CPUs that have nothing to do wait in a loop, so that the host is equally busy in all parts.
//! Each CPU prints `scaling:` and four pairs: rounds and nanoseconds of each kind of part. Comparing the four rates shows
//! the effect of the system calls, without that of the host. The other copies exit immediately.
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
/// The number of times that each part runs.
const ROUNDS: u64 = 4;

fn run() -> ExitCode {
    let number = |n: usize, default| match args().nth(n).map(args::number) {
        None => Some(default),
        Some(number) => number,
    };
    let all = sys::cpu_count();
    let (Some(cpus), Some(ms @ 1..=60_000)) = (number(1, all), number(2, 25)) else {
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
    let mut sums = [(0, 0); 4];
    for round in 0..ROUNDS {
        for (part, sum) in (0..).zip(&mut sums) {
            meet(round * 4 + part + 1, cpus);
            // CPU 0 is alone in the first and the third part.
            if part % 2 == 1 || sys::get_cpu() == 0 {
                let (rounds, ns) =
                    if part < 2 { timed(ms, CHUNK, call_loop) } else { timed(ms, EMPTY_CHUNK, empty_loop) };
                *sum = (sum.0 + rounds, sum.1 + ns);
            }
        }
    }
    let [alone, all, empty_alone, empty_all] = sums;
    println!(
        "scaling: {} {} {} {} {} {} {} {}",
        alone.0, alone.1, all.0, all.1, empty_alone.0, empty_alone.1, empty_all.0, empty_all.1
    );
    ExitCode::SUCCESS
}

/// Waits until all of these CPUs have called this function `times` times.
fn meet(times: u64, cpus: u64) {
    let arrived = shared_page().word(0);
    arrived.fetch_add(1, Ordering::AcqRel);
    while arrived.load(Ordering::Acquire) < times * cpus {
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
