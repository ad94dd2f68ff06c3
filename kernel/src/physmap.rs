//! The physical map: where the kernel reads and writes physical memory. The boot code's tables and the kernel's own both
//! have it at this place.
#![forbid(unsafe_code)]

use crate::layout::PHYSMAP_BASE;

/// The address at which the kernel reads and writes this physical address.
#[must_use]
pub fn phys_to_virt(phys: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((PHYSMAP_BASE + phys) as usize)
}
