//! Program start, from the kernel's `iretq` to the program's body.
//!
//! The kernel enters a program with the initial process stack of the System V ABI:
//!
//! ```text
//!            +-----------------------+ STACK_TOP
//!            | string bytes          |
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
//! Every other register is zero, rflags is 0x202 (only IF and the always-set bit 1), the x87 state is that after
//! `fninit`, and MXCSR is 0x1f80.

#[cfg(target_os = "none")]
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// rsp at program entry. Each copy of the program has its own variable.
static INITIAL_STACK: AtomicPtr<u64> = AtomicPtr::new(ptr::null_mut());

/// Returns a pointer to the initial stack, which starts with argc, or null if the kernel did not start this program.
pub(crate) fn initial_stack() -> *const u64 {
    INITIAL_STACK.load(Ordering::Relaxed)
}

/// The registers with which the kernel entered the program, except rsp.
#[repr(C)]
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named after the registers")]
pub struct EntryRegisters {
    pub rax: AtomicU64,
    pub rbx: AtomicU64,
    pub rcx: AtomicU64,
    pub rdx: AtomicU64,
    pub rsi: AtomicU64,
    pub rdi: AtomicU64,
    pub rbp: AtomicU64,
    pub r8: AtomicU64,
    pub r9: AtomicU64,
    pub r10: AtomicU64,
    pub r11: AtomicU64,
    pub r12: AtomicU64,
    pub r13: AtomicU64,
    pub r14: AtomicU64,
    pub r15: AtomicU64,
    pub rflags: AtomicU64,
}

impl EntryRegisters {
    /// Returns each register's name, its value, and the value that the ABI guarantees.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64, u64); 16] {
        [
            ("rax", &self.rax, 0),
            ("rbx", &self.rbx, 0),
            ("rcx", &self.rcx, 0),
            ("rdx", &self.rdx, 0),
            ("rsi", &self.rsi, 0),
            ("rdi", &self.rdi, 0),
            ("rbp", &self.rbp, 0),
            ("r8", &self.r8, 0),
            ("r9", &self.r9, 0),
            ("r10", &self.r10, 0),
            ("r11", &self.r11, 0),
            ("r12", &self.r12, 0),
            ("r13", &self.r13, 0),
            ("r14", &self.r14, 0),
            ("r15", &self.r15, 0),
            ("rflags", &self.rflags, 0x202),
        ]
        .map(|(name, register, guaranteed)| (name, register.load(Ordering::Relaxed), guaranteed))
    }
}

/// Written once, by `_start`, before any Rust code runs. The initial value is nonzero, so that a register that was not
/// stored does not pass for a correct one.
static ENTRY_REGISTERS: EntryRegisters = {
    const UNKNOWN: u64 = 0xdead_dead_dead_dead;
    EntryRegisters {
        rax: AtomicU64::new(UNKNOWN),
        rbx: AtomicU64::new(UNKNOWN),
        rcx: AtomicU64::new(UNKNOWN),
        rdx: AtomicU64::new(UNKNOWN),
        rsi: AtomicU64::new(UNKNOWN),
        rdi: AtomicU64::new(UNKNOWN),
        rbp: AtomicU64::new(UNKNOWN),
        r8: AtomicU64::new(UNKNOWN),
        r9: AtomicU64::new(UNKNOWN),
        r10: AtomicU64::new(UNKNOWN),
        r11: AtomicU64::new(UNKNOWN),
        r12: AtomicU64::new(UNKNOWN),
        r13: AtomicU64::new(UNKNOWN),
        r14: AtomicU64::new(UNKNOWN),
        r15: AtomicU64::new(UNKNOWN),
        rflags: AtomicU64::new(UNKNOWN),
    }
};

/// Returns the registers with which the kernel entered this program.
#[must_use]
pub fn entry_registers() -> &'static EntryRegisters {
    &ENTRY_REGISTERS
}

/// The program's entry point.
///
/// Entry state: as described at the top of this module; there is no return address. Exit state: the stack is aligned
/// for a `call`, and rbp is 0 to end the chain of stack frames. Only the kernel's `iretq` enters here.
#[cfg(target_os = "none")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "sysv64" fn _start() -> ! {
    core::arch::naked_asm!(
        // Store the registers before any code changes them.
        "mov [rip + {registers} + {rax}], rax",
        "mov [rip + {registers} + {rbx}], rbx",
        "mov [rip + {registers} + {rcx}], rcx",
        "mov [rip + {registers} + {rdx}], rdx",
        "mov [rip + {registers} + {rsi}], rsi",
        "mov [rip + {registers} + {rdi}], rdi",
        "mov [rip + {registers} + {rbp}], rbp",
        "mov [rip + {registers} + {r8}], r8",
        "mov [rip + {registers} + {r9}], r9",
        "mov [rip + {registers} + {r10}], r10",
        "mov [rip + {registers} + {r11}], r11",
        "mov [rip + {registers} + {r12}], r12",
        "mov [rip + {registers} + {r13}], r13",
        "mov [rip + {registers} + {r14}], r14",
        "mov [rip + {registers} + {r15}], r15",
        "pushfq",
        "pop qword ptr [rip + {registers} + {rflags}]",

        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {enter}",
        "ud2",
        enter = sym enter,
        registers = sym ENTRY_REGISTERS,
        rax = const offset_of!(EntryRegisters, rax),
        rbx = const offset_of!(EntryRegisters, rbx),
        rcx = const offset_of!(EntryRegisters, rcx),
        rdx = const offset_of!(EntryRegisters, rdx),
        rsi = const offset_of!(EntryRegisters, rsi),
        rdi = const offset_of!(EntryRegisters, rdi),
        rbp = const offset_of!(EntryRegisters, rbp),
        r8 = const offset_of!(EntryRegisters, r8),
        r9 = const offset_of!(EntryRegisters, r9),
        r10 = const offset_of!(EntryRegisters, r10),
        r11 = const offset_of!(EntryRegisters, r11),
        r12 = const offset_of!(EntryRegisters, r12),
        r13 = const offset_of!(EntryRegisters, r13),
        r14 = const offset_of!(EntryRegisters, r14),
        r15 = const offset_of!(EntryRegisters, r15),
        rflags = const offset_of!(EntryRegisters, rflags),
    )
}

/// Stores the initial stack's address, runs the program's body and exits with its result.
#[cfg(target_os = "none")]
extern "sysv64" fn enter(initial_stack: *mut u64) -> ! {
    unsafe extern "Rust" {
        /// Defined by `program!` with this signature.
        safe fn ringside_program() -> crate::ExitCode;
    }

    INITIAL_STACK.store(initial_stack, Ordering::Relaxed);
    crate::sys::exit(ringside_program())
}
