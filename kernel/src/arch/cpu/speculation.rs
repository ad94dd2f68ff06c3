//! Mitigation of speculative execution past a bounds check. `docs/security.md` says what is covered and what is not.

use core::arch::asm;
use core::hint::assert_unchecked;

use kernel_abi::syscall::TABLE_LEN;

/// Turns a system call's number, which the caller has checked to be below [`TABLE_LEN`], into an index that is below it
/// even when the CPU executes this speculatively after mispredicting that check. It is one `and` in inline assembly:
/// the compiler would remove a mask that it knows to be redundant.
#[inline(always)]
#[must_use]
pub fn table_index(number: u64) -> usize {
    const { assert!(TABLE_LEN.is_power_of_two(), "the mask TABLE_LEN - 1 needs a power of two") };
    let mut index = number;
    // SAFETY: the instruction changes one register and the flags.
    unsafe {
        asm!("and {index}, {mask}", index = inout(reg) index, mask = const TABLE_LEN - 1, options(pure, nomem, nostack));
    }
    // SAFETY: the mask clears every bit above the index. Without the assumption the compiler would add a bounds check,
    // another branch that can be mispredicted.
    unsafe { assert_unchecked(index < TABLE_LEN as u64) };
    index as usize
}
