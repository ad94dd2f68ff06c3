//! Copies from user memory. Ring 0 accesses the memory of a loaded program only here (invariant: USER-COPY). A copy may
//! fault; it then returns the number of bytes copied so far.

use core::arch::naked_asm;

use crate::user_slice::UserSlice;

/// Copies `length` bytes from `from` to `to` and returns the number of bytes *not* copied.
///
/// On entry: DF is clear; `to` is a kernel buffer of at least `length` bytes; `from` is any address in the user half.
/// After a fault at `ringside_copy_may_fault`, the fixup resumes at `ringside_copy_resume`, where rcx holds the number
/// of remaining bytes (SDM 2B, REP).
///
/// On return: AC is clear, even after a fault.
#[unsafe(naked)]
unsafe extern "sysv64" fn copy_bytes(to: *mut u8, from: *const u8, length: usize) -> usize {
    naked_asm!(
        "mov    rcx, rdx",
        // If the CPU has SMAP, boot code patches this NOP to `stac` and the one below to `clac`.
        ".globl ringside_stac_copy",
        "ringside_stac_copy:",
        "nop    dword ptr [rax]",
        ".globl ringside_copy_may_fault",
        "ringside_copy_may_fault:",
        "rep movsb",
        ".globl ringside_copy_resume",
        "ringside_copy_resume:",
        ".globl ringside_clac_copy",
        "ringside_clac_copy:",
        "nop    dword ptr [rax]",
        "mov    rax, rcx",
        "ret",
    )
}

unsafe extern "sysv64" {
    fn ringside_copy_may_fault();
    fn ringside_copy_resume();
    /// The three-byte NOP in [`copy_bytes`] that is patched to `stac`.
    pub(in crate::arch) fn ringside_stac_copy();
    /// The three-byte NOP in [`copy_bytes`] that is patched to `clac`.
    pub(in crate::arch) fn ringside_clac_copy();
}

/// Looks up the exception fixup for `rip`: the address at which to resume if the instruction there faults on user
/// memory.
#[must_use]
pub(in crate::arch) fn fixup(rip: u64) -> Option<u64> {
    let table = [(ringside_copy_may_fault, ringside_copy_resume)];
    table
        .into_iter()
        .find(|(instruction, _)| *instruction as *const () as u64 == rip)
        .map(|(_, resume)| resume as *const () as u64)
}

/// Copies the beginning of a range of user memory into `buffer`. Each byte is read only once, so that ring 3 cannot
/// change it between check and use. Returns the number of bytes copied, which is less than the shorter of the two
/// lengths if a page cannot be read.
pub fn copy_from_user(buffer: &mut [u8], slice: UserSlice) -> usize {
    let length = buffer.len().min(usize::try_from(slice.len()).unwrap_or(usize::MAX));
    // SAFETY: the buffer has at least `length` bytes. The source lies in the user half (`UserSlice`), where each read
    // either returns a byte of user memory or faults at the instruction that has a fixup (invariant: USER-COPY).
    let left = unsafe {
        copy_bytes(
            buffer.as_mut_ptr(),
            core::ptr::with_exposed_provenance(usize::try_from(slice.start()).unwrap_or(0)),
            length,
        )
    };
    length - left
}
