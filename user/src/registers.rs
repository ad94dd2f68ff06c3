//! The register state of ring 3, loaded with chosen values before a kernel entry and stored after it.
#![allow(missing_docs, reason = "the fields are named after the registers")]

use core::cell::UnsafeCell;
use core::mem::offset_of;

use crate::fpu::Fpu;

/// Ring 3's code segment selector (`docs/syscall-abi.md`).
pub const CODE: u64 = 0x23;
/// Ring 3's data segment selector.
pub const DATA: u64 = 0x1b;

/// All registers that a program can load. The last five form the frame that `iretq` pops.
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
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// The general registers except rsp, in the order of [`Registers`].
const NAMES: [&str; 15] =
    ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

impl Registers {
    /// All general registers and rip are zero; CS, SS, RFLAGS, x87 and SSE state are as at program start.
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
        rip: 0,
        cs: CODE,
        rflags: 0x202,
        rsp: 0,
        ss: DATA,
    };

    /// Fills the general registers except rsp with values from `next`. All other registers are as in
    /// [`Registers::ZERO`].
    pub fn filled(mut next: impl FnMut() -> u64) -> Registers {
        Registers {
            rax: next(),
            rbx: next(),
            rcx: next(),
            rdx: next(),
            rsi: next(),
            rdi: next(),
            rbp: next(),
            r8: next(),
            r9: next(),
            r10: next(),
            r11: next(),
            r12: next(),
            r13: next(),
            r14: next(),
            r15: next(),
            ..Registers::ZERO
        }
    }

    /// Returns the general registers with their names; rsp is last.
    #[must_use]
    pub fn general(&self) -> [(&'static str, u64); 16] {
        let Registers { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, .. } = *self;
        let values = [rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15];
        let mut all = [("rsp", self.rsp); 16];
        for (to, from) in all.iter_mut().zip(NAMES.into_iter().zip(values)) {
            *to = from;
        }
        all
    }
}

/// Wraps `naked_asm!` and adds a named `const` operand for each general register except rsp. The operand has the
/// register's name, and its value is the register's offset in [`Registers`].
#[macro_export]
macro_rules! registers_asm {
    ($($arguments:tt)*) => {
        ::core::arch::naked_asm!(
            $($arguments)*
            rax = const ::core::mem::offset_of!($crate::registers::Registers, rax),
            rbx = const ::core::mem::offset_of!($crate::registers::Registers, rbx),
            rcx = const ::core::mem::offset_of!($crate::registers::Registers, rcx),
            rdx = const ::core::mem::offset_of!($crate::registers::Registers, rdx),
            rsi = const ::core::mem::offset_of!($crate::registers::Registers, rsi),
            rdi = const ::core::mem::offset_of!($crate::registers::Registers, rdi),
            rbp = const ::core::mem::offset_of!($crate::registers::Registers, rbp),
            r8 = const ::core::mem::offset_of!($crate::registers::Registers, r8),
            r9 = const ::core::mem::offset_of!($crate::registers::Registers, r9),
            r10 = const ::core::mem::offset_of!($crate::registers::Registers, r10),
            r11 = const ::core::mem::offset_of!($crate::registers::Registers, r11),
            r12 = const ::core::mem::offset_of!($crate::registers::Registers, r12),
            r13 = const ::core::mem::offset_of!($crate::registers::Registers, r13),
            r14 = const ::core::mem::offset_of!($crate::registers::Registers, r14),
            r15 = const ::core::mem::offset_of!($crate::registers::Registers, r15),
        )
    };
}

/// Instructions, for use in [`registers_asm!`], that load all general registers except rsp from the [`Registers`] at
/// symbol `before`. They change no flags.
#[macro_export]
macro_rules! load_general {
    () => {
        concat!(
            "mov rax, [rip + {before} + {rax}]\n",
            "mov rbx, [rip + {before} + {rbx}]\n",
            "mov rcx, [rip + {before} + {rcx}]\n",
            "mov rdx, [rip + {before} + {rdx}]\n",
            "mov rsi, [rip + {before} + {rsi}]\n",
            "mov rdi, [rip + {before} + {rdi}]\n",
            "mov rbp, [rip + {before} + {rbp}]\n",
            "mov r8, [rip + {before} + {r8}]\n",
            "mov r9, [rip + {before} + {r9}]\n",
            "mov r10, [rip + {before} + {r10}]\n",
            "mov r11, [rip + {before} + {r11}]\n",
            "mov r12, [rip + {before} + {r12}]\n",
            "mov r13, [rip + {before} + {r13}]\n",
            "mov r14, [rip + {before} + {r14}]\n",
            "mov r15, [rip + {before} + {r15}]\n",
        )
    };
}

/// Instructions, for use in [`registers_asm!`], that store all general registers except rsp to the [`Registers`] at
/// symbol `after`.
#[macro_export]
macro_rules! store_general {
    () => {
        concat!(
            "mov [rip + {after} + {rax}], rax\n",
            "mov [rip + {after} + {rbx}], rbx\n",
            "mov [rip + {after} + {rcx}], rcx\n",
            "mov [rip + {after} + {rdx}], rdx\n",
            "mov [rip + {after} + {rsi}], rsi\n",
            "mov [rip + {after} + {rdi}], rdi\n",
            "mov [rip + {after} + {rbp}], rbp\n",
            "mov [rip + {after} + {r8}], r8\n",
            "mov [rip + {after} + {r9}], r9\n",
            "mov [rip + {after} + {r10}], r10\n",
            "mov [rip + {after} + {r11}], r11\n",
            "mov [rip + {after} + {r12}], r12\n",
            "mov [rip + {after} + {r13}], r13\n",
            "mov [rip + {after} + {r14}], r14\n",
            "mov [rip + {after} + {r15}], r15\n",
        )
    };
}

/// A register set at a fixed address, which the assembly can access without a pointer in a register: while all
/// registers hold chosen values, none is free for it.
struct Block(UnsafeCell<Registers>);

// SAFETY: a program has one thread, and only `run_syscall` and `run_loop` access the blocks.
unsafe impl Sync for Block {}

static BEFORE: Block = Block(UnsafeCell::new(Registers::ZERO));
static AFTER: Block = Block(UnsafeCell::new(Registers::ZERO));

/// Executes `syscall` with these registers. Returns the registers before and after it. In the first set, rsp and rflags
/// are those in effect at the `syscall`, and rip is the address of the next instruction.
///
/// # Safety
/// The contract of [`crate::sys::syscall`] holds, `registers.rflags` has TF clear, and `registers.fpu` is valid for
/// `fxrstor64`.
pub unsafe fn run_syscall(registers: &Registers) -> (Registers, Registers) {
    // SAFETY: the caller upholds the contract; `syscall_with_registers` follows the `extern "sysv64"` calling convention.
    unsafe { run_with_registers(registers, syscall_with_registers) }
}

/// Executes a loop of `registers.rcx` iterations that changes only rcx and no flags. Returns the same as
/// [`run_syscall`].
///
/// # Safety
/// `registers.rflags` has TF clear, and `registers.fpu` is valid for `fxrstor64`.
pub unsafe fn run_loop(registers: &Registers) -> (Registers, Registers) {
    // SAFETY: the loop accesses no memory, and `loop_with_registers` follows the `extern "sysv64"` calling convention.
    unsafe { run_with_registers(registers, loop_with_registers) }
}

unsafe fn run_with_registers(
    registers: &Registers,
    code: unsafe extern "sysv64" fn(),
) -> (Registers, Registers) {
    // SAFETY: no other code accesses the blocks (see Block), and no reference to them exists during the call.
    unsafe {
        *BEFORE.0.get() = *registers;
        *AFTER.0.get() = Registers::ZERO;
        code();
        (*BEFORE.0.get(), *AFTER.0.get())
    }
}

/// Defines a function that loads all registers from `BEFORE`, executes the given instructions, and stores all registers
/// to `AFTER`. The last of the instructions must fall through.
///
/// Entry state: a System V call. Exit state: as that convention requires. The stack, from the top:
///
/// ```text
///            return address
///            rbp rbx r12 r13 r14 r15   the caller's, preserved
///            rflags                    the caller's, restored: DF and AC must not stay set
///     rsp -> MXCSR, x87 control word   the caller's, four bytes each
/// ```
macro_rules! with_registers {
    ($name:ident: $($instruction:literal),+) => {
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name() {
            registers_asm!(
                // Save the callee-saved registers.
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

                // Store the expected rip and rsp.
                "mov [rip + {before} + {rsp}], rsp",
                "lea rax, [rip + 3f]",
                "mov [rip + {before} + {rip}], rax",

                // Load everything. Load the flags before the general registers, as `mov` changes no flags.
                "fxrstor64 [rip + {before} + {fpu}]",
                "push qword ptr [rip + {before} + {rflags}]",
                "popfq",
                "pushfq",
                "pop qword ptr [rip + {before} + {rflags}]",
                load_general!(),

                $($instruction,)+
                "3:",

                // Store everything. Restore rsp before the stack is used again.
                store_general!(),
                "mov [rip + {after} + {rsp}], rsp",
                "mov rsp, [rip + {before} + {rsp}]",
                "pushfq",
                "pop qword ptr [rip + {after} + {rflags}]",
                "fxsave64 [rip + {after} + {fpu}]",

                // Restore the callee-saved registers.
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
                rsp = const offset_of!(Registers, rsp),
                rflags = const offset_of!(Registers, rflags),
                rip = const offset_of!(Registers, rip),
            )
        }
    };
}

with_registers!(syscall_with_registers: "syscall");
with_registers!(loop_with_registers: "2: jrcxz 3f", "lea rcx, [rcx - 1]", "jmp 2b");
