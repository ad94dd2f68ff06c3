//! Memory: frames, page tables, address spaces, copies from user memory, and the firmware's tables.

pub mod acpi;
pub mod address_space;
pub mod frame_buffer;
pub mod loaded;
pub mod paging;
pub mod physmem;
pub mod runtime_services;
pub mod table;
pub mod usercopy;
