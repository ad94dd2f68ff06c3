//! Executes `syscall` with all registers filled and compares them afterwards.
//!
//! Every system call of the workload is made here, so the code is short: it compares registers in place and stores them
//! only if one differs.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use crate::patterns::RegisterValues;
use crate::violation::Difference;

/// The memory of `checked_syscall`, at a fixed address: its inputs while no register is free to hold a pointer, and its
/// output if a register differs.
#[repr(C)]
struct Block {
    /// The stack pointer before the call.
    rsp: u64,
    /// First argument.
    first: u64,
    /// Second argument.
    second: u64,
    /// The flags before the call.
    rflags: u64,
    /// The address of a `RegisterValues` with the contents of the other registers.
    values: u64,
    /// The expected return address, written only if a register differs.
    resume: u64,
    /// rsp after the call.
    got_rsp: u64,
    /// The flags after the call.
    got_rflags: u64,
    /// rcx and r11 after the call. If a register differs, also every other register, XORed with its expected value.
    got: RegisterValues,
}

struct Shared(UnsafeCell<Block>);

// SAFETY: a program has one thread. Only `checked_syscall` and `call` access the block, and neither is re-entered.
unsafe impl Sync for Shared {}

// SAFETY: a Block consists of integers, for which all-zero is a valid value.
static BLOCK: Shared = Shared(UnsafeCell::new(unsafe { core::mem::zeroed() }));

/// The result of `checked_syscall`, in rax and rdx.
#[repr(C)]
struct CheckedResult {
    rax: u64,
    /// 0 if every register has its expected value.
    differs: u64,
}

/// Makes a system call with all registers filled. Returns rax and the first register that differs.
///
/// # Safety
/// The contract of [`user::sys::syscall`] holds. `rflags` takes effect before the call and has TF and AC clear.
#[inline]
pub unsafe fn call(
    number: u64,
    first: u64,
    second: u64,
    rflags: u64,
    values: &RegisterValues,
) -> (u64, Option<Difference>) {
    // SAFETY: the caller upholds the contract of `syscall`; `values` is a valid reference.
    let result = unsafe { checked_syscall(number, first, second, rflags, values) };
    if result.differs == 0 {
        return (result.rax, None);
    }
    (result.rax, first_difference())
}

#[cold]
fn first_difference() -> Option<Difference> {
    // SAFETY: `checked_syscall` has returned, so nothing else accesses the block. `values` is the reference that `call`
    // passed and still borrows.
    let (block, values) = unsafe {
        let block = &*BLOCK.0.get();
        (block, &*core::ptr::with_exposed_provenance::<RegisterValues>(block.values as usize))
    };
    let got = &block.got;
    let own = [
        ("rcx", block.resume, got.rcx),
        ("r11", block.rflags, got.r11),
        ("rflags", block.rflags, block.got_rflags),
        ("rsp", block.rsp, block.got_rsp),
    ];
    let kept = [
        ("rbx", values.rbx, got.rbx),
        ("rbp", values.rbp, got.rbp),
        ("r12", values.r12, got.r12),
        ("r13", values.r13, got.r13),
        ("r14", values.r14, got.r14),
        ("r15", values.r15, got.r15),
        ("rdx", values.rdx, got.rdx),
        ("r10", values.r10, got.r10),
        ("r8", values.r8, got.r8),
        ("r9", values.r9, got.r9),
        ("rdi", block.first, got.rdi),
        ("rsi", block.second, got.rsi),
    ];
    own.into_iter()
        .chain(kept.map(|(register, expected, changed)| (register, expected, expected ^ changed)))
        .map(|(register, expected, got)| Difference { register, expected, got })
        .find(|difference| difference.expected != difference.got)
}

/// Fills the registers, executes `syscall`, and compares the registers.
///
/// Entry state: a System V call with number, two arguments, flags and register values. Exit state: what that convention
/// requires. If a register differs, rdx is nonzero and `BLOCK` contains all registers. The stack, from the top:
///
/// ```text
///            return address
///     rsp -> rbp rbx r12 r13 r14 r15   the caller's, preserved
///            rflags                    pushed and popped just before and just after the call
/// ```
#[unsafe(naked)]
unsafe extern "sysv64" fn checked_syscall(
    number: u64,
    first: u64,
    second: u64,
    rflags: u64,
    values: *const RegisterValues,
) -> CheckedResult {
    naked_asm!(
        // Save the callee-saved registers.
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",

        // Store the values to compare with.
        "mov [rip + {block} + {rsp}], rsp",
        "mov [rip + {block} + {first}], rsi",
        "mov [rip + {block} + {second}], rdx",
        "mov [rip + {block} + {rflags}], rcx",
        "mov [rip + {block} + {values}], r8",

        // Load everything. Load the flags first, as `mov` changes no flags, and r8 last, as it points to the values.
        "push rcx",
        "popfq",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rbx, [r8 + {rbx}]",
        "mov rbp, [r8 + {rbp}]",
        "mov r12, [r8 + {r12}]",
        "mov r13, [r8 + {r13}]",
        "mov r14, [r8 + {r14}]",
        "mov r15, [r8 + {r15}]",
        "mov rdx, [r8 + {rdx}]",
        "mov r10, [r8 + {r10}]",
        "mov r9, [r8 + {r9}]",
        "mov rcx, [r8 + {rcx}]",
        "mov r11, [r8 + {r11}]",
        "mov r8, [r8 + {r8}]",

        "syscall",
        "3:",

        // Restore rsp before the stack is used again.
        "mov [rip + {block} + {got_rsp}], rsp",
        "mov rsp, [rip + {block} + {rsp}]",
        "pushfq",
        "cld",
        "mov [rip + {block} + {got} + {rcx}], rcx",
        "mov [rip + {block} + {got} + {r11}], r11",

        // XOR with the expected values: an unchanged register becomes 0.
        "mov rcx, [rip + {block} + {values}]",
        "xor rbx, [rcx + {rbx}]",
        "xor rbp, [rcx + {rbp}]",
        "xor r12, [rcx + {r12}]",
        "xor r13, [rcx + {r13}]",
        "xor r14, [rcx + {r14}]",
        "xor r15, [rcx + {r15}]",
        "xor rdx, [rcx + {rdx}]",
        "xor r10, [rcx + {r10}]",
        "xor r8, [rcx + {r8}]",
        "xor r9, [rcx + {r9}]",
        "xor rdi, [rip + {block} + {first}]",
        "xor rsi, [rip + {block} + {second}]",

        // OR all differences into r11, starting with rcx, rflags, r11 and rsp, whose expected values are not in
        // `values`.
        "lea r11, [rip + 3b]",
        "xor r11, [rip + {block} + {got} + {rcx}]",
        "pop rcx",
        "mov [rip + {block} + {got_rflags}], rcx",
        "xor rcx, [rip + {block} + {rflags}]",
        "or r11, rcx",
        "mov rcx, [rip + {block} + {got} + {r11}]",
        "xor rcx, [rip + {block} + {rflags}]",
        "or r11, rcx",
        "mov rcx, [rip + {block} + {got_rsp}]",
        "xor rcx, rsp",
        "or r11, rcx",
        "or r11, rbx",
        "or r11, rbp",
        "or r11, r12",
        "or r11, r13",
        "or r11, r14",
        "or r11, r15",
        "or r11, rdx",
        "or r11, r10",
        "or r11, r8",
        "or r11, r9",
        "or r11, rdi",
        "or r11, rsi",
        "jnz 5f",

        "4:",
        "mov rdx, r11",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",

        // A register differs: store all registers for the report.
        "5:",
        "mov [rip + {block} + {got} + {rbx}], rbx",
        "mov [rip + {block} + {got} + {rbp}], rbp",
        "mov [rip + {block} + {got} + {r12}], r12",
        "mov [rip + {block} + {got} + {r13}], r13",
        "mov [rip + {block} + {got} + {r14}], r14",
        "mov [rip + {block} + {got} + {r15}], r15",
        "mov [rip + {block} + {got} + {rdx}], rdx",
        "mov [rip + {block} + {got} + {r10}], r10",
        "mov [rip + {block} + {got} + {r8}], r8",
        "mov [rip + {block} + {got} + {r9}], r9",
        "mov [rip + {block} + {got} + {rdi}], rdi",
        "mov [rip + {block} + {got} + {rsi}], rsi",
        "lea rcx, [rip + 3b]",
        "mov [rip + {block} + {resume}], rcx",
        "jmp 4b",
        block = sym BLOCK,
        rsp = const offset_of!(Block, rsp),
        first = const offset_of!(Block, first),
        second = const offset_of!(Block, second),
        rflags = const offset_of!(Block, rflags),
        values = const offset_of!(Block, values),
        resume = const offset_of!(Block, resume),
        got = const offset_of!(Block, got),
        got_rsp = const offset_of!(Block, got_rsp),
        got_rflags = const offset_of!(Block, got_rflags),
        rbx = const offset_of!(RegisterValues, rbx),
        rbp = const offset_of!(RegisterValues, rbp),
        r12 = const offset_of!(RegisterValues, r12),
        r13 = const offset_of!(RegisterValues, r13),
        r14 = const offset_of!(RegisterValues, r14),
        r15 = const offset_of!(RegisterValues, r15),
        rdx = const offset_of!(RegisterValues, rdx),
        r10 = const offset_of!(RegisterValues, r10),
        r8 = const offset_of!(RegisterValues, r8),
        r9 = const offset_of!(RegisterValues, r9),
        rcx = const offset_of!(RegisterValues, rcx),
        r11 = const offset_of!(RegisterValues, r11),
        rdi = const offset_of!(RegisterValues, rdi),
        rsi = const offset_of!(RegisterValues, rsi),
    )
}

/// Linux uses the same convention and preserves the same registers as Ringside.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A number that neither kernel implements: Linux also returns `-ENOSYS`.
    const NO_SUCH_CALL: u64 = 1 << 20;

    fn values() -> RegisterValues {
        RegisterValues {
            rbx: 1,
            rbp: !2,
            r12: 3,
            r13: !4,
            r14: 5,
            r15: !6,
            rdx: 7,
            r10: !8,
            r8: 9,
            r9: !10,
            rcx: 11,
            r11: 12,
            rdi: 13,
            rsi: 14,
        }
    }

    #[test]
    fn preserved_registers_show_no_difference() {
        for rflags in [0x202, 0xed7] {
            // SAFETY: the number is not implemented, and the flags are arithmetic flags and DF only.
            let (rax, difference) = unsafe { call(NO_SUCH_CALL, !0, 1, rflags, &values()) };
            assert_eq!((rax.cast_signed(), difference), (-38, None));
        }
    }

    #[test]
    fn a_changed_register_is_named() {
        // SAFETY: as in the test above. Bit 1 of rflags always reads as set, so r11 differs from `rflags` after the
        // call.
        let (_, difference) = unsafe { call(NO_SUCH_CALL, 0, 0, 0x200, &values()) };
        assert_eq!(difference, Some(Difference { register: "r11", expected: 0x200, got: 0x202 }));
    }
}
