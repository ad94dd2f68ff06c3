//! The program for Linux.

use core::arch::x86_64::_rdtsc;
use core::arch::{asm, naked_asm};
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};
use core::hint::spin_loop;
use core::panic::PanicInfo;
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

// Numbers of Linux's system calls for x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
const WRITE: u64 = 1;
const MMAP: u64 = 9;
const FORK: u64 = 57;
const EXIT: u64 = 60;
const WAIT4: u64 = 61;
const GETPPID: u64 = 110;
const REBOOT: u64 = 169;
const CLOCK_GETTIME: u64 = 228;
const SCHED_SETAFFINITY: u64 = 203;
/// A number that no version of Linux uses.
const UNUSED: u64 = 1000;

/// The number of calls in an exact measurement.
const CALLS: u64 = 1000;
/// The number of calls between two readings of the clock in a timed measurement.
const CHUNK: u64 = 5_000;
/// The number of rounds of the empty loop between two readings.
const EMPTY_CHUNK: u64 = 20 * CHUNK;
/// The number of ticks for the measurement of the tick.
const TICKS: u64 = 16;

/// The entry point: passes the initial stack to [`start`].
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "sysv64" fn _start() {
    naked_asm!("mov rdi, rsp", "xor ebp, ebp", "and rsp, -16", "call {start}", "ud2", start = sym start)
}

extern "sysv64" fn start(stack: *const u64) -> ! {
    // SAFETY: Linux starts a process with argc at the stack pointer, followed by the pointers to the arguments, which
    // are strings (System V ABI, AMD64, 3.4.1).
    let arguments = unsafe {
        let count = stack.read() as usize;
        slice::from_raw_parts(stack.add(1).cast::<*const c_char>(), count)
    };
    // SAFETY: as above.
    let argument = |n: usize| arguments.get(n).map(|&text| unsafe { CStr::from_ptr(text) }.to_bytes());
    let cpus = argument(2).and_then(|text| core::str::from_utf8(text).ok()?.parse().ok());
    match (argument(1), cpus) {
        (Some(b"exact"), _) => exact(),
        (Some(b"scaling"), Some(cpus)) => scaling(cpus),
        _ => print(format_args!("linux_init: the arguments are exact, or scaling CPUS\n")),
    }
    // The magic numbers of reboot(2), and LINUX_REBOOT_CMD_RESTART.
    call(REBOOT, [0xfee1_dead, 0x2812_1969, 0x0123_4567, 0]);
    exit()
}

/// Measures instructions under `-icount`, as the program `bench` does.
fn exact() {
    let empty = (0..3).map(|_| around(|| empty_loop(CALLS))).min().unwrap_or(0);
    for (name, number, first, second, third) in [
        ("null", GETPPID, 0, 0, 0),
        ("unknown_max", UNUSED, 0, 0, 0),
        ("write_null_pointer", WRITE, u64::MAX, 0, 1),
    ] {
        call_loop(number, first, second, third, 1);
        let ticks = (0..3).map(|_| around(|| call_loop(number, first, second, third, CALLS)));
        let ticks = ticks.min().unwrap_or(0);
        print(format_args!("bench: {name} {}\n", ticks.saturating_sub(empty) * 100 / CALLS));
    }
    let (least, mean) = tick();
    print(format_args!("bench: tick_least {}\nbench: tick_mean {mean}\n", least * 100));
}

/// Starts a process on each of the first `cpus` CPUs. They make calls at the same time, as the program `scaling` does.
fn scaling(cpus: u64) {
    /// PROT_READ and PROT_WRITE; MAP_SHARED and MAP_ANONYMOUS.
    const SHARED: [u64; 4] = [0, 4096, 3, 0x21];
    let [address, length, protection, flags] = SHARED;
    let page = call6(MMAP, [address, length, protection, flags, u64::MAX, 0]);
    let arrived = ptr::with_exposed_provenance::<[AtomicU64; 2]>(page as usize);
    // SAFETY: the page is mapped and zeroed, and all processes use it only through these atomics. If `mmap` failed, the
    // access faults, and the run has no figures.
    let arrived = unsafe { &*arrived };
    for cpu in 0..cpus {
        if call(FORK, [0; 4]) == 0 {
            worker(cpu, cpus, arrived);
            exit();
        }
    }
    for _ in 0..cpus {
        call(WAIT4, [u64::MAX, 0, 0, 0]);
    }
}

fn worker(cpu: u64, cpus: u64, arrived: &[AtomicU64; 2]) {
    let mask = 1_u64 << cpu;
    call(SCHED_SETAFFINITY, [0, 8, ptr::from_ref(&mask) as u64, 0]);
    let meet = |place: usize| {
        arrived[place].fetch_add(1, Ordering::AcqRel);
        while arrived[place].load(Ordering::Acquire) < cpus {
            spin_loop();
        }
    };
    meet(0);
    let (calls, call_ns) = timed(CHUNK, |count| call_loop(GETPPID, 0, 0, 0, count));
    meet(1);
    let (loops, loop_ns) = timed(EMPTY_CHUNK, empty_loop);
    print(format_args!("scaling: {calls} {call_ns} {loops} {loop_ns}\n"));
}

/// Runs `body` in chunks for 100 ms. Returns the number of rounds and the nanoseconds.
fn timed(chunk: u64, body: impl Fn(u64)) -> (u64, u64) {
    let start = clock_ns();
    let mut rounds = 0;
    loop {
        body(chunk);
        rounds += chunk;
        let ns = clock_ns() - start;
        if ns >= 100_000_000 {
            return (rounds, ns);
        }
    }
}

/// Measures ticks by the gaps between readings of the counter, as the program `bench` does.
fn tick() -> (u64, u64) {
    let (mut least, mut sum, mut count) = (u64::MAX, 0, 0);
    let mut usual = u64::MAX;
    while count < TICKS {
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
    (least - usual, (sum - count * usual) * 100 / count)
}

/// Returns the time of CLOCK_MONOTONIC.
fn clock_ns() -> u64 {
    let mut time = [0_u64; 2];
    call(CLOCK_GETTIME, [1, time.as_mut_ptr() as u64, 0, 0]);
    time[0] * 1_000_000_000 + time[1]
}

fn now() -> u64 {
    // SAFETY: every x86-64 CPU has the counter, and Linux permits it to ring 3.
    unsafe { _rdtsc() }
}

fn around(body: impl Fn()) -> u64 {
    let before = now();
    body();
    now().wrapping_sub(before)
}

/// Makes `count` system calls in the same loop as the program `bench`. `count` must not be 0.
#[inline(never)]
fn call_loop(number: u64, first: u64, second: u64, third: u64, count: u64) {
    // SAFETY: the calls of this program's measurements access no memory, and preserve every register except rax, rcx
    // and r11.
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
            in("rdx") third,
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

fn call(number: u64, [a, b, c, d]: [u64; 4]) -> u64 {
    call6(number, [a, b, c, d, 0, 0])
}

fn call6(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> u64 {
    let result;
    // SAFETY: the callers pass arguments with which the call changes no memory that Rust code relies on.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}

/// Collects a line, so that the lines of several processes do not mix.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
            self.length += 1;
        }
        Ok(())
    }
}

fn print(text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 256], length: 0 };
    // A longer line is cut.
    let _ = line.write_fmt(text);
    call(WRITE, [1, line.bytes.as_ptr() as u64, line.length as u64, 0]);
}

fn exit() -> ! {
    call(EXIT, [0; 4]);
    loop {
        spin_loop();
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    print(format_args!("linux_init: panic\n"));
    exit()
}
