//! Arrays whose lengths are known only at boot, from the firmware's tables. They are never freed.

use core::slice;

use kernel_abi::layout::PAGE_SIZE;
use spin::Mutex;

use crate::arch::memory::paging::{self, MapError};
use crate::arch::memory::physmem;
use crate::layout::{TABLES_BASE, TABLES_END};

/// The address of the next array.
static NEXT: Mutex<u64> = Mutex::new(TABLES_BASE);

/// Allocates an array and fills it: `element` returns the element for an index.
///
/// # Errors
/// [`MapError`]; `OutOfMemory` also if the address range for arrays is used up.
pub fn alloc<T>(len: usize, element: impl Fn(usize) -> T) -> Result<&'static mut [T], MapError> {
    const { assert!(align_of::<T>() as u64 <= PAGE_SIZE, "an array cannot be aligned to more than a page") };
    let bytes = (len as u64)
        .checked_mul(size_of::<T>() as u64)
        .filter(|&bytes| bytes < TABLES_END - TABLES_BASE)
        .ok_or(MapError::OutOfMemory)?
        .next_multiple_of(PAGE_SIZE);
    let mut next = NEXT.lock();
    let start = *next;
    // The page after each array stays unmapped.
    let end = start + bytes;
    if end + PAGE_SIZE > TABLES_END {
        return Err(MapError::OutOfMemory);
    }
    for page in (start..end).step_by(PAGE_SIZE as usize) {
        let frame = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?;
        // SAFETY: the frame is new (invariant: OWN-FRAMES), the address range belongs to these arrays alone, and no
        // program exists yet (invariant: KERNEL-HALF-FIXED).
        unsafe { paging::map_kernel_page(page, frame.start(), paging::KERNEL_DATA) }?;
    }
    *next = end + PAGE_SIZE;
    let first = core::ptr::with_exposed_provenance_mut::<T>(start as usize);
    // SAFETY: the range is mapped, page-aligned and long enough for `len` elements. No other reference to it exists,
    // and each element is written before the slice is created.
    unsafe {
        for index in 0..len {
            first.add(index).write(element(index));
        }
        Ok(slice::from_raw_parts_mut(first, len))
    }
}
