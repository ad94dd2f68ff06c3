//! Memory: frames, page tables, address spaces, copies from ring 3's memory, the firmware's tables where they lie.

pub mod acpi;
pub mod address_space;
pub mod loaded;
pub mod paging;
pub mod physmem;
pub mod table;
pub mod usercopy;
