//! The addresses of the kernel image's sections, from the symbols of the linker script.

use core::ops::Range;

use x86_64::structures::paging::PageTableFlags;

use crate::layout::KERNEL_BASE;

/// A part of the kernel image with uniform access rights.
#[derive(Clone, Debug)]
pub struct Section {
    /// The virtual addresses, page-aligned.
    pub range: Range<u64>,
    /// The rights in the kernel's page tables.
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

/// The address of a symbol of the linker script. Builds for the host lack these symbols and use [`KERNEL_BASE`]
/// instead.
macro_rules! symbol {
    ($name:ident) => {{
        #[cfg(target_os = "none")]
        let address = (&raw const symbols::$name) as u64;
        #[cfg(not(target_os = "none"))]
        let address = KERNEL_BASE;
        address
    }};
}

/// Returns the image's sections with their rights: no page is both writable and executable (invariant: W^X).
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

/// Returns the range of physical addresses of the image, including the boot code.
#[must_use]
pub fn physical() -> Range<u64> {
    #[cfg(target_os = "none")]
    let start = symbol!(__boot_start);
    #[cfg(not(target_os = "none"))]
    let start = 0;
    start..symbol!(__data_end) - KERNEL_BASE
}

/// Returns the range of the BSP's boot stack, without its guard page.
#[must_use]
pub fn boot_stack() -> Range<u64> {
    boot_stack_guard() + 4096..symbol!(__boot_stack_top)
}

/// Returns the address of the guard page below the boot stack, which lies in the data section and is never mapped.
#[must_use]
pub fn boot_stack_guard() -> u64 {
    symbol!(__boot_stack_guard)
}

/// Returns whether an address lies in the kernel's text.
#[must_use]
pub fn is_text(address: u64) -> bool {
    (symbol!(__text_start)..symbol!(__text_end)).contains(&address)
}
