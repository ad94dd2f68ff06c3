//! The physical map, through which the kernel reads and writes physical memory. The boot page tables and the kernel's
//! own page tables map it at the same address.
#![forbid(unsafe_code)]

use crate::layout::PHYSMAP_BASE;

/// Returns the virtual address of a physical address in the physical map.
#[must_use]
pub fn phys_to_virt(phys: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((PHYSMAP_BASE + phys) as usize)
}
