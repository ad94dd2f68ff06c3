//! The entry point of the timer interrupt, the most frequent one.

use core::arch::naked_asm;
use core::mem::{offset_of, size_of};

use super::trap::trap_common;
use crate::arch::entry::registers::{restore_caller_saved, save_caller_saved};
use crate::arch::entry::tick::tick_from_user;
use crate::arch::exit::points::iret_to_user;
use crate::arch::interrupts::apic::TIMER_VECTOR;
use crate::arch::percpu::PerCpuData;
use crate::frame::InterruptFrame;

/// The bytes that `save_caller_saved` pushes.
const SAVED: usize = 9 * 8;

const _: () = {
    assert!(
        SAVED == 8 * lines(save_caller_saved!()) && SAVED == 8 * lines(restore_caller_saved!()),
        "the frame of the CPU must lie above the saved registers"
    );
    assert!(
        (SAVED + size_of::<InterruptFrame>()).is_multiple_of(16),
        "rsp must be 16-byte aligned at the call to Rust"
    );
};

/// Returns the number of lines, each of which is an instruction.
const fn lines(text: &str) -> usize {
    let (mut lines, mut at) = (0, 0);
    while at < text.len() {
        if text.as_bytes()[at] == b'\n' {
            lines += 1;
        }
        at += 1;
    }
    lines
}

/// Entry point of the timer interrupt. A tick from ring 3 is handled here: a tick can end the program, but changes none
/// of its registers and needs none of them, so only the registers that compiled code may overwrite are saved. A tick
/// from ring 0 takes the path of the other vectors, [`trap_common`].
///
/// On entry: as for the other stubs. An interrupt gate cleared IF. The user GS base is loaded if the frame's CS has RPL
/// 3, otherwise the kernel GS base: ring 0 enables interrupts only where the kernel GS base is loaded (invariant:
/// IF-OFF).
///
/// On return to ring 3: all registers are unchanged.
///
/// rbp keeps ring 3's value. A backtrace from here ends there, unless ring 3 has set rbp to an address on one of this
/// CPU's stacks: then it shows wrong return addresses.
///
/// ```text
///                         | ss, rsp, rflags, cs, rip |  by the CPU
///                         | rax                      |  the registers that a callee may overwrite
///                         | rcx, rdx, rsi, rdi       |
///                         | r8, r9, r10              |
///                  rsp -> | r11                      |  16-byte aligned
/// ```
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn tick_entry() {
    naked_asm!(
        "cld",
        // Patched to `clac` at boot if the CPU has SMAP.
        ".globl ringside_clac_tick",
        "ringside_clac_tick:",
        "nop    dword ptr [rax]",
        "test   byte ptr [rsp + {cs}], 3",
        "jz     2f",

        // From ring 3. Pass the CPU's frame in rdi and this CPU's data in rsi.
        "swapgs",
        save_caller_saved!(),
        "lea    rdi, [rsp + {interrupted}]",
        "mov    rsi, gs:[{this}]",
        "call   {from_user}",
        restore_caller_saved!(),
        "jmp    {iret_to_user}",

        // From ring 0.
        "2:",
        "push   0",
        "push   {vector}",
        "jmp    {common}",
        cs = const offset_of!(InterruptFrame, cs),
        interrupted = const SAVED,
        this = const offset_of!(PerCpuData, this),
        vector = const TIMER_VECTOR,
        from_user = sym tick_from_user,
        iret_to_user = sym iret_to_user,
        common = sym trap_common,
    )
}

unsafe extern "sysv64" {
    /// The three-byte NOP in [`tick_entry`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_tick();
}
