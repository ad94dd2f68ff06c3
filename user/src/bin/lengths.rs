//! Measures paths that a loop of system calls cannot measure, for `cargo xtask bench`: KIND.
//!
//! Under `run.sh --icount` the time-stamp counter counts instructions. `floor` measures a system call under the
//! kernel's option `floor=`, and `tick` the shortest tick from ring 3 and back; each prints `lengths: KIND TICKS`. The
//! other kinds record a user event when the copy starts and one before it ends, so that the host tool can compute the
//! lengths from a trace: `exit` ends by SYS_EXIT, `fault` by a page fault, `iret` by a debug exception after a null
//! system call that returns by `iretq`, and `trap` by the same exception without the call. CPU 0 measures; the copies
//! on other CPUs exit immediately.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::arch::asm;
use core::arch::x86_64::_rdtsc;

use kernel_abi::syscall::{FREE, SYS_NULL};
use user::{ExitCode, args, println, sys, tsc};

user::program!(run);

/// The number of calls or ticks that are measured. Only the shortest one counts.
const SAMPLES: u64 = 16;
/// The id of the user event at the start of a copy.
const STARTED: u64 = 1;
/// The id of the user event before the end of a copy.
const ENDING: u64 = 2;

fn run() -> ExitCode {
    match args().nth(1) {
        Some(b"floor") => floor(),
        Some(b"tick") => print_length("tick", tick()),
        Some(b"exit") => marked(|| ()),
        Some(b"fault") => marked(fault),
        Some(b"iret") => marked(iret),
        Some(b"trap") => marked(trap),
        _ => {
            println!("usage: lengths KIND; KIND is one of floor, tick, exit, fault, iret, trap");
            return ExitCode::USAGE;
        }
    }
    ExitCode::SUCCESS
}

fn print_length(kind: &str, ticks: u64) {
    println!("lengths: {kind} {ticks}");
}

fn now() -> u64 {
    // SAFETY: every x86-64 CPU has the counter, and Ringside permits it to ring 3 (CR4.TSD clear).
    unsafe { _rdtsc() }
}

/// Measures a system call that does nothing, and then waits until system calls have an effect again. While `floor=` is
/// in effect, a call returns its number.
fn floor() {
    let shortest = (0..SAMPLES).map(|_| call_ticks()).min().unwrap_or(0);
    let empty = (0..SAMPLES).map(|_| empty_ticks()).min().unwrap_or(0);
    let in_effect = raw(FREE.start) == FREE.start;
    while raw(FREE.start) == FREE.start {}
    if in_effect {
        print_length("floor", shortest - empty);
    } else {
        println!("lengths: the kernel's option floor= is not in effect");
    }
}

fn raw(number: u64) -> u64 {
    // SAFETY: this number has no handler, so the call accesses no memory.
    unsafe { sys::syscall(number, [0; 6]) }
}

/// Returns the time-stamp counter ticks of a system call and the two readings around it.
fn call_ticks() -> u64 {
    let before = now();
    // SAFETY: this number has no handler, and the call preserves every register except rax, rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") FREE.start => _, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    now() - before
}

/// Returns the time-stamp counter ticks of the code of [`call_ticks`] without the system call.
fn empty_ticks() -> u64 {
    let before = now();
    // SAFETY: there is no instruction. The operands are those of `call_ticks`, so the compiled code around it is the
    // same.
    unsafe {
        asm!("", inlateout("rax") FREE.start => _, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    now() - before
}

/// Returns the length of the shortest interrupt, in time-stamp counter ticks.
fn tick() -> u64 {
    let usual = (0..SAMPLES).map(|_| tsc::last_round(2, u64::MAX)).min().unwrap_or(0);
    let shortest = (0..SAMPLES).map(|_| tsc::last_round(u64::MAX, 4 * usual)).min().unwrap_or(0);
    shortest.saturating_sub(usual)
}

/// Records the two user events, and ends the copy.
fn marked(end: fn()) {
    if sys::get_cpu() == 0 {
        sys::trace(STARTED, 0);
        sys::trace(ENDING, 0);
        end();
    }
}

/// Raises a page fault.
fn fault() {
    // SAFETY: page 0 is never mapped, so the read faults and the kernel ends the program.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) 0_u64 => _, options(nostack, readonly)) };
}

/// Makes a null system call with TF set, which returns by `iretq`. The instruction after it raises #DB.
fn iret() {
    // SAFETY: the kernel ends the program at the debug exception.
    unsafe {
        asm!(
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "popfq",
            "syscall",
            "nop",
            inlateout("rax") SYS_NULL => _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
}

/// Does the same as [`iret`] without the call.
fn trap() {
    // SAFETY: the kernel ends the program at the debug exception.
    unsafe {
        asm!(
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "popfq",
            "nop",
            inlateout("rax") SYS_NULL => _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
}
