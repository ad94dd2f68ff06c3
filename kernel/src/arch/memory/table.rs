//! Arrays that are sized at boot by what the firmware lists, and stay for as long as the machine runs.

use core::slice;

use kernel_abi::layout::PAGE_SIZE;
use spin::Mutex;

use crate::arch::memory::paging::{self, MapError};
use crate::arch::memory::physmem;
use crate::layout::{TABLES_BASE, TABLES_END};

/// Where the next array goes.
static NEXT: Mutex<u64> = Mutex::new(TABLES_BASE);

/// A new array, each element made by `element` from its index.
///
/// # Errors
/// [`MapError`], also if the room for arrays is used up.
pub fn alloc<T>(len: usize, element: impl Fn(usize) -> T) -> Result<&'static mut [T], MapError> {
    const { assert!(align_of::<T>() as u64 <= PAGE_SIZE, "arrays start on a page") };
    let bytes = (len as u64)
        .checked_mul(size_of::<T>() as u64)
        .filter(|&bytes| bytes < TABLES_END - TABLES_BASE)
        .ok_or(MapError::OutOfMemory)?
        .next_multiple_of(PAGE_SIZE);
    let mut next = NEXT.lock();
    let start = *next;
    // One page stays unmapped behind each array.
    let end = start + bytes;
    if end + PAGE_SIZE > TABLES_END {
        return Err(MapError::OutOfMemory);
    }
    for page in (start..end).step_by(PAGE_SIZE as usize) {
        let frame = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?;
        // SAFETY: a fresh frame, at an address that nothing else has; no program exists at boot.
        unsafe { paging::map_kernel_page(page, frame.start(), paging::KERNEL_DATA) }?;
    }
    *next = end + PAGE_SIZE;
    let first = core::ptr::with_exposed_provenance_mut::<T>(start as usize);
    // SAFETY: mapped, aligned to a page, long enough, and written before it is read.
    unsafe {
        for index in 0..len {
            first.add(index).write(element(index));
        }
        Ok(slice::from_raw_parts_mut(first, len))
    }
}
