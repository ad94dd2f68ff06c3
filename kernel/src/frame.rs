//! The frames that the entry code builds on the stack: the registers of the interrupted code, in memory order.
#![forbid(unsafe_code)]

use core::mem::{offset_of, size_of};

/// The words that the CPU pushes on an interrupt or exception and that `iretq` pops (SDM 3A, 6.14.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InterruptFrame {
    /// Address of the next instruction.
    pub rip: u64,
    /// Code segment; its two low bits are the privilege level of the interrupted code.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

impl InterruptFrame {
    /// Returns whether ring 3 was interrupted.
    #[must_use]
    pub const fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// The user registers that the system-call entry saves for every call: those that a compiled function may overwrite.
///
/// rcx and r11 have no fields: SYSCALL overwrites them with RIP and RFLAGS, and every exit loads them from
/// [`rip`](SavedRegisters::rip) and [`rflags`](SavedRegisters::rflags), so that the values cannot differ.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are named after the registers")]
pub struct SavedRegisters {
    /// Argument 6.
    pub r9: u64,
    /// Argument 5.
    pub r8: u64,
    /// Argument 4.
    pub r10: u64,
    /// Argument 3.
    pub rdx: u64,
    /// Argument 2.
    pub rsi: u64,
    /// Argument 1.
    pub rdi: u64,
    /// The flags, from r11.
    pub rflags: u64,
    /// Address of the instruction after `syscall`, from rcx.
    pub rip: u64,
}

/// All user registers at a `syscall`. The entry completes this frame for the calls that need it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are named after the registers")]
pub struct SyscallFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    /// The system-call number on entry, the result on exit.
    pub rax: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The registers that are saved for every call.
    pub saved: SavedRegisters,
}

/// The registers of ring 3 or ring 0 at an interrupt or exception.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are named after the registers")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// The vector, pushed by the stub.
    pub vector: u64,
    /// The error code; 0 for vectors that have none.
    pub error_code: u64,
    /// The words that the CPU pushed.
    pub interrupted: InterruptFrame,
}

const _: () = {
    assert!(size_of::<SavedRegisters>() == 8 * 8, "the entry must push 8 words");
    assert!(
        size_of::<SavedRegisters>().is_multiple_of(16),
        "rsp must be 16-byte aligned at the call through the table"
    );
    assert!(offset_of!(SavedRegisters, rip) == 7 * 8, "rip must be pushed first");
    assert!(size_of::<SyscallFrame>() == 16 * 8, "the entry of a frame handler must push 8 more words");
    assert!(size_of::<SyscallFrame>().is_multiple_of(16), "rsp must be 16-byte aligned at the call to Rust");
    assert!(
        offset_of!(SyscallFrame, saved) + size_of::<SavedRegisters>() == size_of::<SyscallFrame>(),
        "the registers that are saved first must lie at the frame's upper end"
    );
    assert!(
        size_of::<TrapFrame>() == 22 * 8,
        "a frame must have 15 registers, 2 words from the stub and 5 from the CPU"
    );
    // The CPU aligns rsp to 16 bytes before it pushes its five words (SDM 3A, 6.14.2). A frame of 22 words keeps rsp
    // aligned at the call to Rust.
    assert!(size_of::<TrapFrame>().is_multiple_of(16), "rsp must be 16-byte aligned at the call to Rust");
    assert!(offset_of!(TrapFrame, vector) == 15 * 8, "the stub's words must lie above 15 registers");
};
