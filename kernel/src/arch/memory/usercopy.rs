//! Copies from ring 3's memory, the only access to the memory of a program that is loaded (invariant: USER-COPY). A
//! copy may fault; it returns how many bytes it has copied.

use core::arch::naked_asm;

use crate::user_slice::UserSlice;

/// Copies `length` bytes from `from` to `to` and returns how many were *not* copied.
///
/// On entry: DF is clear; `to` is a buffer of the kernel's of at least `length` bytes; `from` is any address in the
/// user half. After a fault at `ringside_copy_may_fault` the fixup resumes at `ringside_copy_resume`, where rcx is the
/// number of remaining bytes (SDM 2B, REP).
///
/// On return: AC is clear, also after a fault.
#[unsafe(naked)]
unsafe extern "sysv64" fn copy_bytes(to: *mut u8, from: *const u8, length: usize) -> usize {
    naked_asm!(
        "mov    rcx, rdx",
        // If the CPU has SMAP, the boot replaces this NOP by `stac`, and the one below by `clac`.
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
    /// The three-byte NOP in [`copy_bytes`] that the boot replaces by `stac`.
    pub(in crate::arch) fn ringside_stac_copy();
    /// The three-byte NOP in [`copy_bytes`] that the boot replaces by `clac`.
    pub(in crate::arch) fn ringside_clac_copy();
}

/// Looks up the exception table: the address at which to resume if the instruction at `rip` faults on ring 3's memory.
#[must_use]
pub(in crate::arch) fn fixup(rip: u64) -> Option<u64> {
    let table = [(ringside_copy_may_fault, ringside_copy_resume)];
    table
        .into_iter()
        .find(|(instruction, _)| *instruction as *const () as u64 == rip)
        .map(|(_, resume)| resume as *const () as u64)
}

/// Copies the beginning of a range of ring 3's memory into `buffer`. Each byte is read once, so that ring 3 cannot
/// change it after a check. Returns how many bytes were copied: fewer than the shorter of the two lengths if a page
/// cannot be read.
pub fn copy_from_user(buffer: &mut [u8], slice: UserSlice) -> usize {
    let length = buffer.len().min(usize::try_from(slice.len()).unwrap_or(usize::MAX));
    // SAFETY: the buffer has at least `length` bytes. The source lies in the user half (`UserSlice`), where each read
    // either returns a byte of ring 3's memory or faults at the instruction that `fixup` knows (invariant: USER-COPY).
    let left = unsafe {
        copy_bytes(
            buffer.as_mut_ptr(),
            core::ptr::with_exposed_provenance(usize::try_from(slice.start()).unwrap_or(0)),
            length,
        )
    };
    length - left
}
