//! System calls: one typed function per call, and the raw instruction for programs that test the kernel.
//!
//! The convention is defined in [`kernel_abi::syscall`]: number in rax; arguments in rdi, rsi, rdx, r10, r8, r9; result
//! in rax; rcx and r11 are clobbered.

use core::arch::asm;

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{
    SYS_CLOCK_NS, SYS_CPU_COUNT, SYS_EXIT, SYS_GET_CPU, SYS_GET_TICKS, SYS_NULL, SYS_TRACE, SYS_WRITE_SERIAL,
};

use crate::ExitCode;

/// Makes any system call and returns rax.
///
/// # Safety
/// The kernel accesses the memory designated by the arguments of call `number`. No other code may be using memory that
/// the call writes. `SYS_EXIT` does not return.
pub unsafe fn syscall(number: u64, arguments: [u64; 6]) -> u64 {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: by its ABI the kernel preserves every register except rax, rcx and r11, and does not change the stack.
    // The caller upholds the rest of the contract.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a call whose arguments are all numbers.
fn call(number: u64, first: u64, second: u64) -> u64 {
    // SAFETY: none of the calls that this module makes through this function takes a pointer.
    unsafe { syscall(number, [first, second, 0, 0, 0, 0]) }
}

/// `SYS_NULL`: has no effect. Returns the kernel's result, which is 0.
#[allow(clippy::must_use_candidate, reason = "programs call it to enter and leave the kernel")]
pub fn null() -> u64 {
    call(SYS_NULL, 0, 0)
}

/// `SYS_WRITE_SERIAL`: offers bytes to this CPU's console line. Returns how many were accepted.
///
/// # Errors
/// The kernel never returns [`Errno::Fault`] for a valid slice; if it did, the error would be passed on.
pub fn write(bytes: &[u8]) -> Result<usize, Errno> {
    let address = bytes.as_ptr().expose_provenance() as u64;
    // SAFETY: the call reads `bytes` and writes no memory.
    let rax = unsafe { syscall(SYS_WRITE_SERIAL, [address, bytes.len() as u64, 0, 0, 0, 0]) };
    match Errno::from_rax(rax) {
        Some(errno) => Err(errno),
        None => Ok(rax as usize),
    }
}

/// Writes all bytes, in as many calls as necessary. Stops at the first error.
pub fn write_all(mut bytes: &[u8]) {
    while let Ok(accepted) = write(bytes) {
        match bytes.get(accepted..) {
            None | Some([]) => return,
            Some(rest) => bytes = rest,
        }
    }
}

/// `SYS_GET_TICKS`: returns the number of timer ticks on this CPU since its first copy of the program started.
#[must_use]
pub fn ticks() -> u64 {
    call(SYS_GET_TICKS, 0, 0)
}

/// `SYS_EXIT`: ends the program on this CPU.
pub fn exit(code: ExitCode) -> ! {
    loop {
        // The kernel never returns from this call; the loop gives this function the return type `!`.
        call(SYS_EXIT, i64::from(code.0).cast_unsigned(), 0);
    }
}

/// `SYS_GET_CPU`: returns the dense index of the CPU that this copy runs on; 0 is the BSP.
#[must_use]
pub fn get_cpu() -> u64 {
    call(SYS_GET_CPU, 0, 0)
}

/// `SYS_CPU_COUNT`: returns the number of online CPUs.
#[must_use]
pub fn cpu_count() -> u64 {
    call(SYS_CPU_COUNT, 0, 0)
}

/// `SYS_CLOCK_NS`: returns the monotonic time since boot in nanoseconds.
#[must_use]
pub fn clock_ns() -> u64 {
    call(SYS_CLOCK_NS, 0, 0)
}

/// `SYS_TRACE`: records an event in this CPU's trace. Returns the kernel's result, which is 0.
#[allow(clippy::must_use_candidate, reason = "programs call it to record the event")]
pub fn trace(id: u64, value: u64) -> u64 {
    call(SYS_TRACE, id, value)
}
