//! The exit points: the `iretq` to ring 3, a program's first entry into ring 3, and the switch to an empty kernel
//! stack.

use core::arch::naked_asm;

use crate::arch::cpu::fpu::FpuImage;
use crate::arch::percpu::PerCpuData;
use crate::frame::InterruptFrame;

/// The last two instructions of every exit to ring 3 except `sysretq`.
///
/// On entry: ring 0; interrupts off; the kernel GS base; rsp points to an [`InterruptFrame`] for ring 3; all other
/// registers already hold user values.
///
/// On exit: ring 3 runs with the user GS base. If `iretq` faults on the frame, the exception is raised in ring 0, at
/// the exported label, with the user GS base loaded: `trap_common` compares RIP with the label and executes `swapgs`.
#[unsafe(naked)]
pub(in crate::arch) unsafe extern "sysv64" fn iret_to_user() {
    naked_asm!("swapgs", ".globl ringside_iretq_to_user", "ringside_iretq_to_user:", "iretq",)
}

unsafe extern "sysv64" {
    /// The `iretq` instruction of [`iret_to_user`].
    pub(in crate::arch) fn ringside_iretq_to_user();
}

/// Abandons the current stack and calls `next` on an empty one.
///
/// On entry: ring 0; interrupts off; the stack that ends at `stack_top` belongs to this CPU; the contents of that stack
/// and of the current one are no longer needed.
///
/// On exit: rsp is aligned as after a call; rbp is zero.
#[unsafe(naked)]
pub(in crate::arch) unsafe extern "sysv64" fn restart_on(
    stack_top: u64,
    cpu: &PerCpuData,
    next: extern "sysv64" fn(&'static PerCpuData) -> !,
) -> ! {
    naked_asm!(
        "mov    rsp, rdi",
        "xor    ebp, ebp", // ends the backtrace
        "mov    rdi, rsi",
        "push   rbp", // aligns rsp as a call does
        "jmp    rdx",
    )
}

/// Enters ring 3 for the first time: zeroes all registers, resets the FPU and executes `iretq`.
///
/// On entry: ring 0; interrupts off; the kernel GS base; the program's address space is loaded; the caller has checked
/// `frame`.
///
/// On exit: the syscall stack is empty, so the next entry starts at its top.
#[unsafe(naked)]
pub(in crate::arch) unsafe extern "sysv64" fn enter_ring3(frame: &InterruptFrame, fpu: &FpuImage) -> ! {
    naked_asm!(
        "mov    rsp, rdi",
        // AMD's FXRSTOR does not load the address and opcode of the last x87 instruction unless the image has an
        // exception pending (APM 2, 11.4.4; CVE-2006-1056). FNINIT clears both and raises no exception.
        "fninit",
        "fxrstor64 [rsi]",

        // Load null data segments. Loading GS may clear the active GS base, so swap in the user GS base, which is 0,
        // first.
        "xor    eax, eax",
        "mov    ds, eax",
        "mov    es, eax",
        "mov    fs, eax",
        "swapgs",
        "mov    gs, eax",
        "swapgs",

        "xor    ebx, ebx",
        "xor    ecx, ecx",
        "xor    edx, edx",
        "xor    esi, esi",
        "xor    edi, edi",
        "xor    ebp, ebp",
        "xor    r8d, r8d",
        "xor    r9d, r9d",
        "xor    r10d, r10d",
        "xor    r11d, r11d",
        "xor    r12d, r12d",
        "xor    r13d, r13d",
        "xor    r14d, r14d",
        "xor    r15d, r15d",
        "jmp    {iret_to_user}",
        iret_to_user = sym iret_to_user,
    )
}

/// Unmasks NMIs, as an SMI in the NMI handler may: executes an `iretq` to its own return.
#[unsafe(naked)]
pub(in crate::arch) unsafe extern "sysv64" fn unmask_nmis() {
    naked_asm!(
        "mov    rax, rsp",
        "mov    ecx, ss",
        "push   rcx",
        "push   rax",
        "pushfq",
        "mov    ecx, cs",
        "push   rcx",
        "lea    rcx, [rip + 2f]",
        "push   rcx",
        "iretq",
        "2:",
        "ret",
    )
}
