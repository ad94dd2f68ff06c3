//! The stubs: the entry points of all vectors except the NMI and the timer's.

use core::arch::naked_asm;

use super::nmi::nmi_entry;
use super::paranoid::paranoid_common;
use super::tick::tick_entry;
use super::trap::trap_common;
use crate::arch::interrupts::apic::TIMER_VECTOR;
use crate::exception::NMI;

/// Defines one stub for each vector. Each stub brings the stack to the layout shared by all vectors and jumps to the
/// common code.
///
/// On entry: the stack holds the words that the CPU pushed, including an error code if the vector has one. On exit:
/// error code and vector are on the stack, and all registers are unchanged. A stub is entered only through its IDT
/// gate.
macro_rules! stubs {
    ($($name:ident: $vector:literal, $error_code:ident, $common:ident;)+) => {
        $(
            #[unsafe(naked)]
            unsafe extern "sysv64" fn $name() {
                stubs!(@$error_code $vector, $common)
            }
        )+
        /// The vectors that the kernel uses, each with its stub, except the NMI and the timer's.
        const STUBS: &[(u8, unsafe extern "sysv64" fn())] = &[$(($vector, $name)),+];
    };
    (@none $vector:literal, $common:ident) => {
        naked_asm!("push 0", "push {vector}", "jmp {common}", vector = const $vector, common = sym $common)
    };
    // #AC and the other exceptions with an error code whose vectors can also be delivered as interrupts. An interrupt
    // pushes no error code. The CPU aligns rsp to 16 bytes before it pushes the frame (SDM 3A, 6.14.2), so bit 3 of rsp
    // shows whether it has pushed five words or six. The flags that the test changes are in the frame.
    (@code_or_none $vector:literal, $common:ident) => {
        naked_asm!(
            "test spl, 8",
            "jz 2f",
            "push 0",
            "2:",
            "push {vector}",
            "jmp {common}",
            vector = const $vector,
            common = sym $common,
        )
    };
    (@code $vector:literal, $common:ident) => {
        naked_asm!("push {vector}", "jmp {common}", vector = const $vector, common = sym $common)
    };
}

stubs! {
    vector_00: 0x00, none, trap_common;
    vector_01: 0x01, none, paranoid_common;
    vector_03: 0x03, none, trap_common;
    vector_04: 0x04, none, trap_common;
    vector_05: 0x05, none, trap_common;
    vector_06: 0x06, none, trap_common;
    vector_07: 0x07, none, trap_common;
    vector_08: 0x08, code, paranoid_common;
    vector_09: 0x09, none, trap_common;
    vector_0a: 0x0a, code, trap_common;
    vector_0b: 0x0b, code, trap_common;
    vector_0c: 0x0c, code, trap_common;
    vector_0d: 0x0d, code, trap_common;
    vector_0e: 0x0e, code, trap_common;
    vector_0f: 0x0f, none, trap_common;
    vector_10: 0x10, none, trap_common;
    vector_11: 0x11, code_or_none, trap_common;
    vector_12: 0x12, none, paranoid_common;
    vector_13: 0x13, none, trap_common;
    vector_14: 0x14, none, trap_common;
    vector_15: 0x15, code_or_none, trap_common;
    vector_16: 0x16, none, trap_common;
    vector_17: 0x17, none, trap_common;
    vector_18: 0x18, none, trap_common;
    vector_19: 0x19, none, trap_common;
    vector_1a: 0x1a, none, trap_common;
    vector_1b: 0x1b, none, trap_common;
    vector_1c: 0x1c, none, trap_common;
    vector_1d: 0x1d, code_or_none, trap_common;
    vector_1e: 0x1e, code_or_none, trap_common;
    vector_1f: 0x1f, none, trap_common;
    vector_fd: 0xfd, none, trap_common;
    vector_fe: 0xfe, none, trap_common;
    vector_ff: 0xff, none, trap_common;
}

/// The first unused vector. All unused vectors lie between the timer's vector and the wake-up IPI's.
const STRAY_FIRST: u8 = 0x21;
/// The number of unused vectors.
const STRAY_COUNT: u8 = 0xfd - STRAY_FIRST;
/// The length of a stub in [`stray_stubs`], in bytes.
const STRAY_STUB_LEN: u64 = 12;

/// The stubs of the unused vectors, in vector order. Each pushes 0 for the error code and its vector, and jumps to
/// [`trap_common`], as the stubs above do. `push` and `jmp` have 32-bit operands in all of them, so that
/// all have the same length.
///
/// On entry and exit: as for the other stubs.
#[unsafe(naked)]
unsafe extern "sysv64" fn stray_stubs() {
    naked_asm!(
        ".set ringside_stray_vector, {first}",
        ".rept {count}",
        "push 0",
        ".byte 0x68", // push imm32
        ".long ringside_stray_vector",
        ".byte 0xe9", // jmp rel32
        ".long {common} - . - 4",
        ".set ringside_stray_vector, ringside_stray_vector + 1",
        ".endr",
        first = const STRAY_FIRST,
        count = const STRAY_COUNT,
        common = sym trap_common,
    )
}

/// Returns the addresses of the stubs of all vectors, with the vectors.
pub(in crate::arch) fn stubs() -> impl Iterator<Item = (u8, u64)> {
    let own: [(u8, unsafe extern "sysv64" fn()); 2] = [(NMI as u8, nmi_entry), (TIMER_VECTOR, tick_entry)];
    let used = STUBS.iter().copied().chain(own).map(|(vector, stub)| (vector, stub as *const () as u64));
    let first = stray_stubs as *const () as u64;
    used.chain((0..STRAY_COUNT).map(move |n| (STRAY_FIRST + n, first + u64::from(n) * STRAY_STUB_LEN)))
}
