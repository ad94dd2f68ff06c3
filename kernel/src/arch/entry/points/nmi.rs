//! The entry point of the NMI, which allows for nested NMIs.

use core::arch::naked_asm;
use core::mem::{offset_of, size_of};

use super::paranoid::paranoid_common;
use crate::arch::percpu::PerCpuData;
use crate::exception::NMI;
use crate::frame::{InterruptFrame, TrapFrame};

/// The words above a trap frame on the NMI stack, up to the stack's top.
#[repr(C)]
struct NmiStack {
    /// The frame of the NMI that is being handled. Its `iretq` pops this frame. It is the upper end of the
    /// [`TrapFrame`].
    kept: InterruptFrame,
    /// A copy of `top.cpu`, which [`paranoid_common`] expects above the frame.
    cpu: *const PerCpuData,
    top: NmiTop,
}

/// The part of [`NmiStack`] that a nested NMI overwrites.
#[repr(C)]
struct NmiTop {
    /// rax of the interrupted code, while [`nmi_entry`] uses it.
    rax: u64,
    /// 0: no NMI is being handled. 1: one is. 2: one is, and another has arrived, for which the handler will run once
    /// more.
    state: u64,
    /// The words that the CPU pushed for the latest NMI.
    latest: InterruptFrame,
    /// The stack's top word.
    cpu: *const PerCpuData,
}

const _: () = {
    let base = size_of::<NmiStack>() - size_of::<*const PerCpuData>() - size_of::<InterruptFrame>();
    assert!(
        (base + size_of::<TrapFrame>()).is_multiple_of(16),
        "the NMI's trap frame must have the same alignment as those of the other vectors"
    );
    assert!(
        offset_of!(NmiTop, latest) == offset_of!(NmiTop, state) + 8,
        "`state` lies below the CPU's words"
    );
    assert!(
        offset_of!(NmiTop, cpu) - offset_of!(NmiTop, latest) == size_of::<InterruptFrame>(),
        "the pushes that copy the frame read consecutive words"
    );
};

/// Entry point of the NMI, and its return.
///
/// An NMI masks further NMIs until the next `iretq`. But an `iretq` in the handler unmasks them, and so may an SMI in
/// the handler: the CPU does not save the NMI-blocking state on SMM entry, so RSM cannot restore it (SDM 3C, 32.8). For
/// a nested NMI the CPU starts at the top of the IST stack again and overwrites the frame there. So the NMI keeps a
/// copy of its frame further down, and runs its handler once more if another NMI has arrived meanwhile. `state`
/// records that one has arrived. A nested NMI uses only the words above the copy.
///
/// On entry and return: as for the other stubs with an IST stack.
///
/// Between the entry and the instruction that sets `state` to 1, a nested NMI overwrites a frame that has not been
/// copied. No code can prevent that; the handler recognises it and ends the run.
///
/// ```text
///                         | PerCpuData               |  top word of the stack
///                         | ss, rsp, rflags, cs, rip |  by the CPU, for the latest NMI
///                         | state                    |
///                         | rax                      |
///                         | PerCpuData               |
///                         | ss, rsp, rflags, cs, rip |  the copy
///                         | error code               |  0
///                         | vector                   |  by this code; below: paranoid_common's registers
/// ```
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn nmi_entry() {
    naked_asm!(
        ".globl ringside_nmi_entry",
        "ringside_nmi_entry:",
        "sub    rsp, 8", // state
        "push   rax",

        // An NMI that interrupted ring 3 is not nested. Its RIP may have any value.
        "test   byte ptr [rsp + {cs}], 3",
        "jnz    ringside_nmi_first",

        // If the interrupted RIP is in this code before `ringside_nmi_again`, that NMI's frame is lost: the handler
        // ends the run.
        "lea    rax, [rip + ringside_nmi_entry]",
        "neg    rax",
        "add    rax, [rsp + {rip}]",
        "cmp    rax, offset ringside_nmi_entry_length",
        "jb     ringside_nmi_first",

        // Is an NMI being handled?
        "cmp    qword ptr [rsp + {state}], 0",
        "jne    ringside_nmi_nested",

        // Has it been handled, and does the interrupted RIP point to one of the two instructions that return from it?
        "lea    rax, [rip + ringside_nmi_decided]",
        "neg    rax",
        "add    rax, [rsp + {rip}]",
        "cmp    rax, offset ringside_nmi_return_length",
        "jae    ringside_nmi_first",

        // Yes: let it run its handler again instead.
        ".globl ringside_nmi_returning",
        "ringside_nmi_returning:",
        "mov    qword ptr [rsp + {state}], 1",
        "lea    rax, [rip + ringside_nmi_again]",
        "mov    [rsp + {rip}], rax",
        "pop    rax",
        "add    rsp, 8",
        "iretq",

        // The interrupted NMI runs its handler again when it is about to return.
        "ringside_nmi_nested:",
        "mov    qword ptr [rsp + {state}], 2",
        "pop    rax",
        "add    rsp, 8",
        "iretq",

        // Copy the words above rax. They are pushed from the highest down, so each lies at the same distance from rsp.
        ".globl ringside_nmi_first",
        "ringside_nmi_first:",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "push   qword ptr [rsp + {cpu}]",
        "mov    rax, [rsp + {kept_rax}]",
        "mov    qword ptr [rsp + {kept_state}], 1",

        // rsp points to the copy, and all registers have the values of the interrupted code.
        ".globl ringside_nmi_again",
        "ringside_nmi_again:",
        "push   0",
        "push   {nmi}",
        "jmp    {common}",

        // rsp points to the vector, and all registers have the values of the interrupted code. One instruction decides
        // whether another NMI has arrived.
        ".globl ringside_nmi_exit",
        "ringside_nmi_exit:",
        "add    rsp, {stub_words}",
        "dec    qword ptr [rsp + {kept_state}]",
        "ringside_nmi_decided:",
        "jnz    ringside_nmi_again",
        "iretq",
        "ringside_nmi_end:",
        ".set ringside_nmi_entry_length, ringside_nmi_again - ringside_nmi_entry",
        ".set ringside_nmi_return_length, ringside_nmi_end - ringside_nmi_decided",
        cs = const offset_of!(NmiTop, latest) + offset_of!(InterruptFrame, cs),
        rip = const offset_of!(NmiTop, latest) + offset_of!(InterruptFrame, rip),
        state = const offset_of!(NmiTop, state),
        cpu = const offset_of!(NmiTop, cpu),
        kept_rax = const offset_of!(NmiStack, top) + offset_of!(NmiTop, rax),
        kept_state = const offset_of!(NmiStack, top) + offset_of!(NmiTop, state),
        stub_words = const offset_of!(TrapFrame, interrupted) - offset_of!(TrapFrame, vector),
        nmi = const NMI,
        common = sym paranoid_common,
    )
}

unsafe extern "sysv64" {
    /// The part of [`nmi_entry`] that returns.
    pub(super) fn ringside_nmi_exit();
}
