//! Where the kernel's own image lies, section by section, as the linker script placed it.

use core::ops::Range;

use x86_64::structures::paging::PageTableFlags;

use crate::layout::KERNEL_BASE;

/// A part of the image that has rights of its own.
#[derive(Clone, Debug)]
pub struct Section {
    /// Virtual addresses, whole pages.
    pub range: Range<u64>,
    /// Rights in the kernel's tables.
    pub flags: PageTableFlags,
}

#[cfg(target_os = "none")]
mod symbols {
    unsafe extern "Rust" {
        pub static __boot_start: u8;
        pub static __text_start: u8;
        pub static __text_end: u8;
        pub static __rodata_start: u8;
        pub static __rodata_end: u8;
        pub static __data_start: u8;
        pub static __boot_stack_guard: u8;
        pub static __boot_stack_top: u8;
        pub static __data_end: u8;
    }
}

/// The address of a symbol that the linker script defines; off the kernel's own target there is none.
macro_rules! symbol {
    ($name:ident) => {{
        #[cfg(target_os = "none")]
        let address = (&raw const symbols::$name) as u64;
        #[cfg(not(target_os = "none"))]
        let address = KERNEL_BASE;
        address
    }};
}

/// The image's sections with the rights that they get: no page is both writable and executable.
#[must_use]
pub fn sections() -> [Section; 3] {
    let read = PageTableFlags::PRESENT | PageTableFlags::NO_EXECUTE;
    let execute = PageTableFlags::PRESENT;
    [
        Section { range: symbol!(__text_start)..symbol!(__text_end), flags: execute },
        Section { range: symbol!(__rodata_start)..symbol!(__rodata_end), flags: read },
        Section { range: symbol!(__data_start)..symbol!(__data_end), flags: read | PageTableFlags::WRITABLE },
    ]
}

/// The image's place in physical memory, the boot code included.
#[must_use]
pub fn physical() -> Range<u64> {
    #[cfg(target_os = "none")]
    let start = symbol!(__boot_start);
    #[cfg(not(target_os = "none"))]
    let start = 0;
    start..symbol!(__data_end) - KERNEL_BASE
}

/// The BSP's first stack, without its guard page.
#[must_use]
pub fn boot_stack() -> Range<u64> {
    boot_stack_guard() + 4096..symbol!(__boot_stack_top)
}

/// The page below the BSP's first stack: part of the data section, and never mapped.
#[must_use]
pub fn boot_stack_guard() -> u64 {
    symbol!(__boot_stack_guard)
}

/// Is this the address of an instruction of the kernel's?
#[must_use]
pub fn is_text(address: u64) -> bool {
    (symbol!(__text_start)..symbol!(__text_end)).contains(&address)
}
