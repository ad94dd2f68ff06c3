//! Mitigates speculative execution past a bounds check (Spectre v1). `docs/security.md` lists what is covered and what
//! is not.

use core::arch::asm;
use core::hint::assert_unchecked;

use kernel_abi::syscall::TABLE_LEN;

/// Masks a system-call number that the caller has checked to be below [`TABLE_LEN`]. The resulting index is below
/// [`TABLE_LEN`] even if the CPU mispredicts that check and executes this function speculatively. The mask is a single
/// `and` in inline assembly, because the compiler would remove a mask that it knows to be redundant.
#[inline(always)]
#[must_use]
pub fn table_index(number: u64) -> usize {
    const { assert!(TABLE_LEN.is_power_of_two(), "the mask TABLE_LEN - 1 needs a power of two") };
    let mut index = number;
    // SAFETY: the instruction changes one register and the flags.
    unsafe {
        asm!("and {index}, {mask}", index = inout(reg) index, mask = const TABLE_LEN - 1, options(pure, nomem, nostack));
    }
    // SAFETY: the mask clears every bit above the index. Without this assumption the compiler would add a bounds check,
    // which is another branch that can be mispredicted.
    unsafe { assert_unchecked(index < TABLE_LEN as u64) };
    index as usize
}
