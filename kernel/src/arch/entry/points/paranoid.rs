//! The common code of NMI, #DB, #MC and #DF.

use core::arch::naked_asm;
use core::mem::{offset_of, size_of};

use super::nmi::ringside_nmi_exit;
use crate::arch::cpu::msr::IA32_GS_BASE;
use crate::arch::entry::registers::{restore_registers, save_registers};
use crate::arch::entry::trap::paranoid_trap;
use crate::exception::NMI;
use crate::frame::TrapFrame;

/// Common code of NMI, #DB, #MC and #DF, the vectors that can arrive between any two instructions. Only the stubs
/// of these vectors may jump here.
///
/// On entry: ring 0; interrupts off; rsp on this vector's own IST stack, where the word above the frame holds the
/// address of this CPU's [`PerCpuData`]; **the GS base may be the user's or the kernel's**: at the first instruction of
/// [`syscall_entry`], CS has RPL 0 but the user GS base is loaded. So this code tests neither CS nor the sign of the
/// base. It always saves the base, sets it and restores it. IA32_KERNEL_GS_BASE does not change.
///
/// On return: all registers and the GS base are unchanged, unless the handler changed the frame. An NMI returns through
/// [`nmi_entry`].
///
/// The stack layout is that of [`trap_common`], plus one word above the frame: the address of [`PerCpuData`].
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn paranoid_common() {
    naked_asm!(
        "cld",
        ".globl ringside_clac_paranoid",
        "ringside_clac_paranoid:",
        "nop    dword ptr [rax]",

        save_registers!(),

        // Save the GS base in r12, which the handler preserves.
        "mov    ecx, {ia32_gs_base}",
        "rdmsr",
        "shl    rdx, 32",
        "mov    r12, rax",
        "or     r12, rdx",

        // Set the GS base to the address of this CPU's data, which is in the word above the frame.
        "mov    rsi, [rsp + {frame_size}]",
        "mov    rax, rsi",
        "mov    rdx, rsi",
        "shr    rdx, 32",
        "wrmsr",

        "mov    rdi, rsp",
        "call   {handler}",

        // Restore the GS base.
        "mov    ecx, {ia32_gs_base}",
        "mov    rax, r12",
        "mov    rdx, r12",
        "shr    rdx, 32",
        "wrmsr",

        restore_registers!(),
        "cmp    byte ptr [rsp], {nmi}",
        "je     {nmi_exit}",
        "add    rsp, {stub_words}",
        "iretq",
        nmi = const NMI,
        nmi_exit = sym ringside_nmi_exit,
        ia32_gs_base = const IA32_GS_BASE,
        frame_size = const size_of::<TrapFrame>(),
        stub_words = const offset_of!(TrapFrame, interrupted) - offset_of!(TrapFrame, vector),
        handler = sym paranoid_trap,
    )
}

unsafe extern "sysv64" {
    /// The three-byte NOP in [`paranoid_common`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_paranoid();
}
