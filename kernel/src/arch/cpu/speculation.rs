//! What keeps a CPU that runs ahead of a branch from doing harm. `docs/security.md` says what is covered and what
//! is not.

use core::arch::asm;
use core::hint::assert_unchecked;

use kernel_abi::syscall::TABLE_LEN;

/// A system call's number that was found to be below [`TABLE_LEN`], as an index that is below it even where the CPU
/// has predicted that finding and not made it. One instruction; the compiler, which would drop a mask that it knows
/// to change nothing, does not see into it.
#[inline(always)]
#[must_use]
pub fn table_index(number: u64) -> usize {
    const { assert!(TABLE_LEN.is_power_of_two(), "the index is masked") };
    let mut index = number;
    // SAFETY: changes one register.
    unsafe {
        asm!("and {index}, {mask}", index = inout(reg) index, mask = const TABLE_LEN - 1, options(pure, nomem, nostack));
    }
    // SAFETY: the mask leaves nothing above it. The bounds checks that would follow are the branch over again.
    unsafe { assert_unchecked(index < TABLE_LEN as u64) };
    index as usize
}
