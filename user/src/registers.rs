//! The register file as ring 3 sees it: loaded with chosen values, sent over a border, and read back.
#![allow(missing_docs, reason = "the registers are their own names")]

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use crate::fpu::Fpu;

/// All registers that a program can load.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Registers {
    pub fpu: Fpu,
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    /// Out of the crossing: not loaded, but noted before it.
    pub rsp: u64,
    /// As asked for; after the crossing as they were in force, with the bits that ring 3 cannot choose.
    pub rflags: u64,
    /// Out of the crossing: address of the instruction behind it.
    pub resume: u64,
}

impl Registers {
    /// Everything zero, and the x87 and SSE state as a program is started with.
    pub const ZERO: Registers = Registers {
        fpu: Fpu::RESET,
        rax: 0,
        rbx: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        rbp: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rsp: 0,
        rflags: 0x202,
        resume: 0,
    };

    /// The integer registers with their names, rip's successor left out.
    pub fn integers(&self) -> [(&'static str, u64); 17] {
        [
            ("rax", self.rax),
            ("rbx", self.rbx),
            ("rcx", self.rcx),
            ("rdx", self.rdx),
            ("rsi", self.rsi),
            ("rdi", self.rdi),
            ("rbp", self.rbp),
            ("r8", self.r8),
            ("r9", self.r9),
            ("r10", self.r10),
            ("r11", self.r11),
            ("r12", self.r12),
            ("r13", self.r13),
            ("r14", self.r14),
            ("r15", self.r15),
            ("rsp", self.rsp),
            ("rflags", self.rflags),
        ]
    }
}

/// A register file at an address that the assembly knows: while all registers hold chosen values, none is left
/// to point anywhere.
struct Block(UnsafeCell<Registers>);

// SAFETY: a program is one thread, and only `over_syscall` and `over_loop` touch the blocks.
unsafe impl Sync for Block {}

static BEFORE: Block = Block(UnsafeCell::new(Registers::ZERO));
static AFTER: Block = Block(UnsafeCell::new(Registers::ZERO));

/// Executes `syscall` with these registers. Returns those before it (rsp, rflags and resume as they were in
/// force) and those after it.
///
/// # Safety
/// As for [`crate::sys::syscall`]. `registers.rflags` has TF clear, and `registers.fpu` is valid for `fxrstor64`.
pub unsafe fn over_syscall(registers: &Registers) -> (Registers, Registers) {
    // SAFETY: the caller's promise; the crossing itself keeps the convention of `extern "sysv64"`.
    unsafe { over(registers, cross_syscall) }
}

/// Executes a loop of `registers.rcx` rounds that changes nothing but rcx, not even flags. Returns as
/// [`over_syscall`].
///
/// # Safety
/// `registers.rflags` has TF clear, and `registers.fpu` is valid for `fxrstor64`.
pub unsafe fn over_loop(registers: &Registers) -> (Registers, Registers) {
    // SAFETY: as above; the loop touches no memory.
    unsafe { over(registers, cross_loop) }
}

unsafe fn over(registers: &Registers, cross: unsafe extern "sysv64" fn()) -> (Registers, Registers) {
    // SAFETY: nobody else touches the blocks (see Block), and no reference to them is alive during the crossing.
    unsafe {
        *BEFORE.0.get() = *registers;
        *AFTER.0.get() = Registers::ZERO;
        cross();
        (*BEFORE.0.get(), *AFTER.0.get())
    }
}

/// Defines a function that loads all registers from `BEFORE`, executes the given instructions, the last of which
/// falls through to the end, and stores all registers to `AFTER`.
///
/// Given: a call by the System V convention. Leaves: what that convention asks for. The stack, from the top:
///
/// ```text
///            return address
///            rbp rbx r12 r13 r14 r15   the caller's, to be kept
///            rflags                    the caller's: DF and AC must not stay set
///     rsp -> MXCSR, x87 control word   the caller's, four bytes each
/// ```
macro_rules! crossing {
    ($name:ident: $($instruction:literal),+) => {
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name() {
            naked_asm!(
                // Keep what is the caller's.
                "push rbp",
                "push rbx",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                "pushfq",
                "sub rsp, 8",
                "stmxcsr [rsp]",
                "fnstcw [rsp + 4]",

                // Note where this will be.
                "mov [rip + {before} + {rsp}], rsp",
                "lea rax, [rip + 3f]",
                "mov [rip + {before} + {resume}], rax",

                // Load everything; the flags first, since no `mov` changes them.
                "fxrstor64 [rip + {before} + {fpu}]",
                "push qword ptr [rip + {before} + {rflags}]",
                "popfq",
                "pushfq",
                "pop qword ptr [rip + {before} + {rflags}]",
                "mov rax, [rip + {before} + {rax}]",
                "mov rbx, [rip + {before} + {rbx}]",
                "mov rcx, [rip + {before} + {rcx}]",
                "mov rdx, [rip + {before} + {rdx}]",
                "mov rsi, [rip + {before} + {rsi}]",
                "mov rdi, [rip + {before} + {rdi}]",
                "mov rbp, [rip + {before} + {rbp}]",
                "mov r8, [rip + {before} + {r8}]",
                "mov r9, [rip + {before} + {r9}]",
                "mov r10, [rip + {before} + {r10}]",
                "mov r11, [rip + {before} + {r11}]",
                "mov r12, [rip + {before} + {r12}]",
                "mov r13, [rip + {before} + {r13}]",
                "mov r14, [rip + {before} + {r14}]",
                "mov r15, [rip + {before} + {r15}]",

                $($instruction,)+
                "3:",

                // Store everything. rsp is put right before the stack is used again.
                "mov [rip + {after} + {rax}], rax",
                "mov [rip + {after} + {rbx}], rbx",
                "mov [rip + {after} + {rcx}], rcx",
                "mov [rip + {after} + {rdx}], rdx",
                "mov [rip + {after} + {rsi}], rsi",
                "mov [rip + {after} + {rdi}], rdi",
                "mov [rip + {after} + {rbp}], rbp",
                "mov [rip + {after} + {r8}], r8",
                "mov [rip + {after} + {r9}], r9",
                "mov [rip + {after} + {r10}], r10",
                "mov [rip + {after} + {r11}], r11",
                "mov [rip + {after} + {r12}], r12",
                "mov [rip + {after} + {r13}], r13",
                "mov [rip + {after} + {r14}], r14",
                "mov [rip + {after} + {r15}], r15",
                "mov [rip + {after} + {rsp}], rsp",
                "mov rsp, [rip + {before} + {rsp}]",
                "pushfq",
                "pop qword ptr [rip + {after} + {rflags}]",
                "fxsave64 [rip + {after} + {fpu}]",

                // Give the caller back what is the caller's.
                "fninit",
                "fldcw [rsp + 4]",
                "ldmxcsr [rsp]",
                "add rsp, 8",
                "popfq",
                "pop r15",
                "pop r14",
                "pop r13",
                "pop r12",
                "pop rbx",
                "pop rbp",
                "ret",
                before = sym BEFORE,
                after = sym AFTER,
                fpu = const offset_of!(Registers, fpu),
                rax = const offset_of!(Registers, rax),
                rbx = const offset_of!(Registers, rbx),
                rcx = const offset_of!(Registers, rcx),
                rdx = const offset_of!(Registers, rdx),
                rsi = const offset_of!(Registers, rsi),
                rdi = const offset_of!(Registers, rdi),
                rbp = const offset_of!(Registers, rbp),
                r8 = const offset_of!(Registers, r8),
                r9 = const offset_of!(Registers, r9),
                r10 = const offset_of!(Registers, r10),
                r11 = const offset_of!(Registers, r11),
                r12 = const offset_of!(Registers, r12),
                r13 = const offset_of!(Registers, r13),
                r14 = const offset_of!(Registers, r14),
                r15 = const offset_of!(Registers, r15),
                rsp = const offset_of!(Registers, rsp),
                rflags = const offset_of!(Registers, rflags),
                resume = const offset_of!(Registers, resume),
            )
        }
    };
}

crossing!(cross_syscall: "syscall");
crossing!(cross_loop: "2: jrcxz 3f", "lea rcx, [rcx - 1]", "jmp 2b");
