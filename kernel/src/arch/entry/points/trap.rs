//! The common code of most vectors.

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::arch::entry::registers::{restore_registers, save_registers};
use crate::arch::entry::trap::{trap_from_kernel, trap_from_user};
use crate::arch::exit::points::iret_to_user;
use crate::arch::percpu::PerCpuData;
use crate::frame::{InterruptFrame, TrapFrame};

/// Common entry code of all vectors except a tick from ring 3 ([`tick_entry`](super::tick)), and except NMI, #DB, #MC and #DF,
/// which use [`paranoid_common`](super::paranoid). Only the stubs of
/// these vectors may jump here.
///
/// On entry: ring 0; interrupts off (interrupt gates); rsp on the syscall stack (from ring 3) or on the interrupted
/// stack (from ring 0), with the error code and the vector below the words that the CPU pushed; DF and AC as in the
/// interrupted code, because gates do not clear them. The user GS base is loaded if the frame's CS has RPL 3, or if the
/// interrupted instruction is the `iretq` of [`iret_to_user`]; otherwise the kernel GS base is loaded.
///
/// On return: all registers are unchanged, unless the handler changed the frame.
///
/// ```text
///                         | ss, rsp, rflags, cs, rip |  by the CPU
///                         | error code               |  by the CPU or the stub
///                         | vector                   |  by the stub
///                         | rax ... r14              |
///                  rsp -> | r15                      |  TrapFrame, 16-byte aligned
/// ```
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn trap_common() {
    naked_asm!(
        "cld",
        // Patched to `clac` at boot if the CPU has SMAP.
        ".globl ringside_clac_trap",
        "ringside_clac_trap:",
        "nop    dword ptr [rax]",

        save_registers!(),

        "xor    ebp, ebp",
        "mov    rdi, rsp",
        "test   byte ptr [rsp + {cs}], 3",
        "jz     3f",

        // From ring 3.
        "swapgs",
        "mov    rsi, gs:[{this}]",
        "call   {from_user}",
        restore_registers!(),
        "add    rsp, {stub_words}",
        "jmp    {iret_to_user}",

        // From ring 0. If the iretq to ring 3 faulted, the user GS base is already loaded.
        "3:",
        "lea    rax, [rip + ringside_iretq_to_user]",
        "cmp    rax, [rsp + {rip}]",
        "jne    4f",
        "swapgs",
        "4:",
        // Reload the interrupted code's frame pointer, so that a backtrace continues through the trap.
        "mov    rbp, [rsp + {rbp}]",
        "call   {from_kernel}",
        restore_registers!(),
        "add    rsp, {stub_words}",
        "iretq",
        cs = const offset_of!(TrapFrame, interrupted) + offset_of!(InterruptFrame, cs),
        rip = const offset_of!(TrapFrame, interrupted) + offset_of!(InterruptFrame, rip),
        rbp = const offset_of!(TrapFrame, rbp),
        this = const offset_of!(PerCpuData, this),
        stub_words = const offset_of!(TrapFrame, interrupted) - offset_of!(TrapFrame, vector),
        from_user = sym trap_from_user,
        from_kernel = sym trap_from_kernel,
        iret_to_user = sym iret_to_user,
    )
}

unsafe extern "sysv64" {
    /// The three-byte NOP in [`trap_common`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_trap();
}
