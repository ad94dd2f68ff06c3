//! Saves and restores registers: the instruction lists for a [`TrapFrame`] with a check that they match the struct, and
//! those for the registers that a called function may overwrite.

use core::mem::offset_of;

use crate::frame::TrapFrame;

/// Expands to the instructions that push the general-purpose registers of a [`TrapFrame`], whose upper part is already
/// on the stack.
///
/// ```text
///   rsp before ->  | vector |  pushed by the stub; above: the error code and the words that the CPU pushed
///                  | rax    |
///                  | rbx    |
///                  | rcx    |
///                  | rdx    |
///                  | rsi    |
///                  | rdi    |
///                  | rbp    |
///                  | r8     |
///                  | r9     |
///                  | r10    |
///                  | r11    |
///                  | r12    |
///                  | r13    |
///                  | r14    |
///   rsp after  ->  | r15    |  the frame's address, 16-byte aligned
/// ```
macro_rules! save_registers {
    () => {
        concat!(
            "push   rax\n",
            "push   rbx\n",
            "push   rcx\n",
            "push   rdx\n",
            "push   rsi\n",
            "push   rdi\n",
            "push   rbp\n",
            "push   r8\n",
            "push   r9\n",
            "push   r10\n",
            "push   r11\n",
            "push   r12\n",
            "push   r13\n",
            "push   r14\n",
            "push   r15\n",
        )
    };
}

/// Expands to the instructions that pop the general-purpose registers that [`save_registers`] pushed. Afterwards rsp
/// points to the frame's vector.
macro_rules! restore_registers {
    () => {
        concat!(
            "pop    r15\n",
            "pop    r14\n",
            "pop    r13\n",
            "pop    r12\n",
            "pop    r11\n",
            "pop    r10\n",
            "pop    r9\n",
            "pop    r8\n",
            "pop    rbp\n",
            "pop    rdi\n",
            "pop    rsi\n",
            "pop    rdx\n",
            "pop    rcx\n",
            "pop    rbx\n",
            "pop    rax\n",
        )
    };
}

// The words of a `TrapFrame` from its start, in the order in which `restore_registers` pops them.
const _: () = {
    let words = [
        offset_of!(TrapFrame, r15),
        offset_of!(TrapFrame, r14),
        offset_of!(TrapFrame, r13),
        offset_of!(TrapFrame, r12),
        offset_of!(TrapFrame, r11),
        offset_of!(TrapFrame, r10),
        offset_of!(TrapFrame, r9),
        offset_of!(TrapFrame, r8),
        offset_of!(TrapFrame, rbp),
        offset_of!(TrapFrame, rdi),
        offset_of!(TrapFrame, rsi),
        offset_of!(TrapFrame, rdx),
        offset_of!(TrapFrame, rcx),
        offset_of!(TrapFrame, rbx),
        offset_of!(TrapFrame, rax),
        offset_of!(TrapFrame, vector),
    ];
    let mut index = 0;
    while index < words.len() {
        assert!(
            words[index] == 8 * index,
            "TrapFrame's fields must be in the reverse order of the pushes in save_registers"
        );
        index += 1;
    }
};

/// Expands to the instructions that push the registers that a called function may overwrite (System V ABI, 3.2.1).
macro_rules! save_caller_saved {
    () => {
        concat!(
            "push   rax\n",
            "push   rcx\n",
            "push   rdx\n",
            "push   rsi\n",
            "push   rdi\n",
            "push   r8\n",
            "push   r9\n",
            "push   r10\n",
            "push   r11\n",
        )
    };
}

/// Expands to the instructions that pop the registers that [`save_caller_saved`] pushed.
macro_rules! restore_caller_saved {
    () => {
        concat!(
            "pop    r11\n",
            "pop    r10\n",
            "pop    r9\n",
            "pop    r8\n",
            "pop    rdi\n",
            "pop    rsi\n",
            "pop    rdx\n",
            "pop    rcx\n",
            "pop    rax\n",
        )
    };
}

pub(super) use {restore_caller_saved, restore_registers, save_caller_saved, save_registers};
