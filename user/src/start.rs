//! From the kernel's `iretq` to the program's body.
//!
//! The kernel enters a program as the System V ABI draws the initial stack of a process:
//!
//! ```text
//!            +-----------------------+ STACK_TOP
//!            | bytes of the strings  |
//!            | AT_NULL, 0            |
//!            | auxiliary vector      |  pairs of words
//!            | 0                     |
//!            | envp[0..]             |
//!            | 0                     |
//!            | argv[0..argc]         |  addresses of NUL-terminated strings
//!     rsp -> | argc                  |  16-byte aligned
//!            +-----------------------+
//! ```
//!
//! Every other register is zero, rflags is 0x202 (interrupts on, nothing else), the x87 state is that of `fninit`,
//! MXCSR is 0x1f80.

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Where rsp pointed when the program was entered. Each copy of the program has its own.
static INITIAL_STACK: AtomicPtr<u64> = AtomicPtr::new(ptr::null_mut());

/// The initial stack, starting with argc; null before the program was entered.
pub(crate) fn initial_stack() -> *const u64 {
    INITIAL_STACK.load(Ordering::Relaxed)
}

/// Where the kernel enters the program.
///
/// Given: the state that this module's text describes; no return address. Leaves: a stack aligned as a
/// `call` wants it, rbp = 0 as the end of the chain of frames. Nobody but the kernel's `iretq` comes here.
#[cfg(target_os = "none")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "sysv64" fn _start() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {enter}",
        "ud2",
        enter = sym enter,
    )
}

/// Remembers the initial stack, runs the program's body and exits with what it returns.
#[cfg(target_os = "none")]
extern "sysv64" fn enter(initial_stack: *mut u64) -> ! {
    unsafe extern "Rust" {
        /// Defined by `program!`, with this signature.
        safe fn ringside_program() -> crate::ExitCode;
    }

    INITIAL_STACK.store(initial_stack, Ordering::Relaxed);
    crate::sys::exit(ringside_program())
}
