//! Maps the frame buffer.

use kernel_abi::layout::PAGE_SIZE;

use crate::arch::memory::paging::{self, MapError};
use crate::layout::FRAME_BUFFER;
use crate::screen::Mode;

/// Maps the frame buffer and returns its address. It is mapped in 4 KiB pages, so that no other memory gets its memory
/// type.
///
/// # Errors
/// [`MapError`].
///
/// # Safety
/// Called once, on the BSP, with the kernel's page tables loaded, before the first program. The loader has reported
/// this frame buffer.
pub unsafe fn map(mode: &Mode) -> Result<*mut u32, MapError> {
    let first = mode.start & !(PAGE_SIZE - 1);
    let end = mode.start + mode.bytes();
    for page in (first..end).step_by(PAGE_SIZE as usize) {
        // SAFETY: the memory belongs to the frame buffer: `Mode` has checked that it is not in the memory map, and that
        // it is not larger than the space for it. No program exists yet (guaranteed by the caller).
        unsafe { paging::map_kernel_page(FRAME_BUFFER + (page - first), page, paging::FRAME_BUFFER) }?;
    }
    Ok(core::ptr::with_exposed_provenance_mut((FRAME_BUFFER + mode.start % PAGE_SIZE) as usize))
}
