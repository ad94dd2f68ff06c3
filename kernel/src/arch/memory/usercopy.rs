//! The one way from ring 3's memory into the kernel: a copy that may fault, and says how far it came.

use core::arch::naked_asm;

use crate::user_slice::UserSlice;

/// Copies `length` bytes from `from` to `to`; returns how many were *not* copied.
///
/// Given: DF clear; `to` is the kernel's and long enough; `from` is any address in the user half. A fault at the
/// exported label goes on behind it, with rcx still at the number of bytes that are left (SDM 2B, REP).
/// Leaves: AC clear on both ways out.
#[unsafe(naked)]
unsafe extern "sysv64" fn copy_bytes(to: *mut u8, from: *const u8, length: usize) -> usize {
    naked_asm!(
        "mov    rcx, rdx",
        // `stac` and `clac`, written over these no-operations at boot where the CPU has SMAP.
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
    /// Three bytes in [`copy_bytes`] that become `stac`.
    pub(in crate::arch) fn ringside_stac_copy();
    /// Three bytes in [`copy_bytes`] that become `clac`.
    pub(in crate::arch) fn ringside_clac_copy();
}

/// The exception table: where to go on if this instruction faults on ring 3's memory.
#[must_use]
pub(in crate::arch) fn fixup(rip: u64) -> Option<u64> {
    let table = [(ringside_copy_may_fault, ringside_copy_resume)];
    table
        .into_iter()
        .find(|(instruction, _)| *instruction as *const () as u64 == rip)
        .map(|(_, resume)| resume as *const () as u64)
}

/// Copies the beginning of a range that ring 3 claims into `buffer`, once; what ring 3 does to its memory
/// afterwards changes nothing. Returns how many bytes came over, which is fewer than both lengths if a page in
/// between cannot be read.
pub fn copy_from_user(buffer: &mut [u8], slice: UserSlice) -> usize {
    let length = buffer.len().min(usize::try_from(slice.len()).unwrap_or(usize::MAX));
    // SAFETY: the destination is a live buffer of at least that length; the source lies in the user half, where
    // whatever happens is a fault that `fixup` knows, or some byte of ring 3's.
    let left = unsafe {
        copy_bytes(
            buffer.as_mut_ptr(),
            core::ptr::with_exposed_provenance(usize::try_from(slice.start()).unwrap_or(0)),
            length,
        )
    };
    length - left
}
