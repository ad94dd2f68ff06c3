//! Measures the system calls and the tick on one CPU, in ticks of the time-stamp counter: [CPU [CALLS]].
//!
//! Under `run.sh --icount` the counter counts instructions. CPU is the index of the CPU that measures (default 0); the
//! copies on the other CPUs exit immediately. Each figure is one line: `bench: NAME FIGURE`, in hundredths. The loop or
//! the instructions around a single call are subtracted. `cargo xtask bench` reads these lines.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::arch::x86_64::_rdtsc;

use kernel_abi::syscall::{
    SYS_CLOCK_NS, SYS_CPU_COUNT, SYS_GET_CPU, SYS_GET_TICKS, SYS_NULL, SYS_TRACE, SYS_WRITE_SERIAL,
};
use user::{ExitCode, args, println, sys};

user::program!(run);

/// Default number of calls of each kind.
const DEFAULT_CALLS: u64 = 1000;
/// The number of ticks for the measurement of the tick.
const TICKS: u64 = 64;
/// Text without a line end, so that the calls that write it only fill the kernel's buffer.
static TEXT: [u8; 512] = [b'.'; 512];

/// The calls that are measured in a loop: name, number, and the first two arguments.
const LOOPS: [(&str, u64, u64, u64); 13] = [
    ("null", SYS_NULL, 0, 0),
    ("get_ticks", SYS_GET_TICKS, 0, 0),
    ("get_cpu", SYS_GET_CPU, 0, 0),
    ("cpu_count", SYS_CPU_COUNT, 0, 0),
    ("clock_ns", SYS_CLOCK_NS, 0, 0),
    ("trace", SYS_TRACE, 1, 2),
    ("unknown_8", 8, 0, 0),
    ("unknown_15", 15, 0, 0),
    ("unknown_16", 16, 0, 0),
    ("unknown_max", u64::MAX, 0, 0),
    ("write_0", SYS_WRITE_SERIAL, 0, 0),
    ("write_null_pointer", SYS_WRITE_SERIAL, 0, 1),
    ("write_kernel_pointer", SYS_WRITE_SERIAL, 0xffff_8000_0000_0000, 1),
];

/// The lengths of the writes that are measured one by one. The kernel accepts at most 256 bytes of one call.
const WRITES: [(&str, u64); 3] = [("write_1", 1), ("write_64", 64), ("write_512", 512)];

fn run() -> ExitCode {
    let number = |n: usize, default| match args().nth(n).map(args::number) {
        None => Some(default),
        Some(number) => number,
    };
    let (Some(cpu), Some(calls @ 1..=1_000_000_000)) = (number(1, 0), number(2, DEFAULT_CALLS)) else {
        println!("usage: bench [CPU [CALLS]]; CALLS must be 1 to 1000000000");
        return ExitCode::USAGE;
    };
    if sys::get_cpu() != cpu {
        return ExitCode::SUCCESS;
    }
    // A timer interrupt may fall into a measurement, so each is repeated, and the least figure counts.
    let empty = (0..3).map(|_| around(|| empty_loop(calls))).min().unwrap_or(0);
    for (name, number, first, second) in LOOPS {
        call_loop(number, first, second, 1);
        let ticks = (0..3).map(|_| around(|| call_loop(number, first, second, calls))).min().unwrap_or(0);
        print_figure(name, ticks.saturating_sub(empty) * 100 / calls);
    }
    let alone = around(|| empty_loop(1));
    for (name, length) in WRITES {
        let ticks = around(|| call_loop(SYS_WRITE_SERIAL, TEXT.as_ptr() as u64, length, 1));
        // This ends the line, and so empties the buffer for the next write.
        println!();
        print_figure(name, ticks.saturating_sub(alone) * 100);
    }
    let (least, mean) = tick();
    print_figure("tick_least", least * 100);
    print_figure("tick_mean", mean);
    ExitCode::SUCCESS
}

fn print_figure(name: &str, hundredths: u64) {
    println!("bench: {name} {hundredths}");
}

fn now() -> u64 {
    // SAFETY: every x86-64 CPU has the counter, and Ringside permits it to ring 3 (CR4.TSD clear).
    unsafe { _rdtsc() }
}

/// Returns the time-stamp counter ticks that `body` takes.
fn around(body: impl Fn()) -> u64 {
    let before = now();
    body();
    now().wrapping_sub(before)
}

/// Makes `count` system calls in the shortest loop that the ABI permits. `count` must not be 0.
#[inline(never)]
fn call_loop(number: u64, first: u64, second: u64, count: u64) {
    // SAFETY: the calls read memory only below their pointers' checks, and preserve every register except rax, rcx and
    // r11.
    unsafe {
        asm!(
            "2:",
            "mov rax, {number}",
            "syscall",
            "dec {count}",
            "jnz 2b",
            number = in(reg) number,
            count = inout(reg) count => _,
            in("rdi") first,
            in("rsi") second,
            out("rax") _,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
}

/// Runs the loop of [`call_loop`] without the system calls.
#[inline(never)]
fn empty_loop(count: u64) {
    // SAFETY: changes only the two registers listed.
    unsafe {
        asm!(
            "2:",
            "mov rax, {number}",
            "dec {count}",
            "jnz 2b",
            number = in(reg) 0_u64,
            count = inout(reg) count => _,
            out("rax") _,
            options(nomem, nostack),
        );
    }
}

/// Measures ticks by the gaps between readings of the counter. Returns the least gap with a tick, and the mean in
/// hundredths, both without a gap without one.
fn tick() -> (u64, u64) {
    let (mut least, mut sum, mut count) = (u64::MAX, 0, 0);
    let mut usual = u64::MAX;
    let start = sys::ticks();
    while count < TICKS {
        // The inner loop makes no calls, so every gap above the usual one contains an interrupt.
        let before = now();
        let gap = now().wrapping_sub(before);
        if gap <= usual {
            usual = gap;
        } else if gap > usual + 20 {
            least = least.min(gap);
            sum += gap;
            count += 1;
        }
    }
    debug_assert!(sys::ticks() > start);
    (least - usual, (sum - count * usual) * 100 / count)
}
