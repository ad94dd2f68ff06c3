//! The boot information, in a form independent of the boot protocol. No other module depends on the protocol.

pub mod image;
#[cfg(any(test, target_os = "none"))]
mod multiboot2;
#[cfg(target_os = "none")]
mod pvh;
#[cfg(target_os = "none")]
mod start;
#[cfg(any(test, target_os = "none"))]
mod uefi;

use core::ops::Range;

use kernel_abi::boot::{COMMAND_LINE_MAX, FrameBuffer, RANGES_MAX};
use kernel_abi::layout::PAGE_SIZE;
use spin::Once;

use crate::frames::{self, Region};

/// The end of the physical memory that the boot page tables map.
const MAPPED_END: u64 = 1 << 32;

/// Returns whether the boot page tables map `count` entries of `size` bytes at a physical address.
#[must_use]
pub const fn is_mapped(paddr: u64, count: u64, size: u64) -> bool {
    match count.checked_mul(size) {
        Some(bytes) if bytes <= MAPPED_END => paddr <= MAPPED_END - bytes,
        _ => false,
    }
}

/// The use of a range of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Free memory.
    Usable,
    /// The firmware's tables, or the loader's information, which the kernel only reads.
    Firmware,
}

/// An entry of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// The range of physical addresses.
    pub range: Region,
    /// The use of the range.
    pub kind: RegionKind,
}

/// A range of physical memory that the firmware's runtime services use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeRegion {
    /// The range of physical addresses.
    pub range: Region,
    /// The use of the range.
    pub kind: RuntimeKind,
}

/// The use of a [`RuntimeRegion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Code of the firmware's images, and the data of these images.
    Code,
    /// Data.
    Data,
    /// Device registers.
    Device,
}

/// The highest number of [`RuntimeRegion`]s. Firmware has about ten.
const RUNTIME_MAX: usize = 32;

/// The loader's information about the machine, copied from the loader's memory.
#[derive(Clone)]
pub struct BootInfo {
    regions: [MemoryRegion; RANGES_MAX],
    region_count: usize,
    runtime: [RuntimeRegion; RUNTIME_MAX],
    runtime_count: usize,
    command_line: [u8; COMMAND_LINE_MAX],
    command_line_len: usize,
    /// Whether the loader's information was found. If not, all other fields are empty.
    pub found: bool,
    /// Whether the command line is longer than [`COMMAND_LINE_MAX`]. If so, an unknown part of it is missing.
    pub command_line_truncated: bool,
    /// Whether the command line lies in memory that the boot page tables do not map, so that it cannot be read.
    pub command_line_unmapped: bool,
    /// The name of a list from the loader that lies in memory that the boot page tables do not map; `None` if they map
    /// all lists. If a list is not mapped, all fields except [`found`](Self::found) are empty.
    pub unmapped_list: Option<&'static str>,
    /// Whether the memory map did not fit and was truncated.
    pub truncated: bool,
    /// Physical address of the ACPI RSDP; 0 if the loader does not know it.
    pub rsdp: u64,
    /// Physical address of the UEFI system table; 0 if the firmware is not UEFI, or if part of the memory of its
    /// runtime services is unknown.
    pub system_table: u64,
    /// The screen's frame buffer.
    pub frame_buffer: FrameBuffer,
    /// The first boot module, which contains a user program.
    pub module: Option<Region>,
    /// Whether the loader is QEMU's own, so that QEMU's exit device may be written to without a request.
    pub has_debug_exit: bool,
    /// The value of the TSC when the first Rust code ran.
    pub tsc: u64,
}

impl BootInfo {
    /// Boot information with no content.
    pub const EMPTY: BootInfo = BootInfo {
        regions: [MemoryRegion { range: Region { start: 0, len: 0 }, kind: RegionKind::Firmware };
            RANGES_MAX],
        region_count: 0,
        runtime: [RuntimeRegion { range: Region { start: 0, len: 0 }, kind: RuntimeKind::Device };
            RUNTIME_MAX],
        runtime_count: 0,
        command_line: [0; COMMAND_LINE_MAX],
        command_line_len: 0,
        found: false,
        command_line_truncated: false,
        command_line_unmapped: false,
        unmapped_list: None,
        truncated: false,
        rsdp: 0,
        system_table: 0,
        frame_buffer: FrameBuffer::NONE,
        module: None,
        has_debug_exit: false,
        tsc: 0,
    };

    /// Adds an entry to the memory map. If the map is full, only sets [`truncated`](Self::truncated).
    pub fn add_region(&mut self, region: MemoryRegion) {
        match self.regions.get_mut(self.region_count) {
            Some(place) => {
                *place = region;
                self.region_count += 1;
            }
            None => self.truncated = true,
        }
    }

    /// Adds a range of the runtime services. If there are more than `RUNTIME_MAX` ranges, the services cannot be
    /// called, and [`system_table`](Self::system_table) becomes 0.
    pub fn add_runtime_region(&mut self, region: RuntimeRegion) {
        match self.runtime.get_mut(self.runtime_count) {
            Some(place) => {
                *place = region;
                self.runtime_count += 1;
            }
            None => self.system_table = 0,
        }
    }

    /// Returns the memory of the firmware's runtime services.
    #[must_use]
    pub fn runtime_regions(&self) -> &[RuntimeRegion] {
        &self.runtime[..self.runtime_count]
    }

    /// Returns the physical address of the command line, if there is one (`paddr` is not 0) and the boot page tables
    /// map the bytes that [`set_command_line`](Self::set_command_line) reads. If they are not mapped, sets
    /// [`command_line_unmapped`](Self::command_line_unmapped).
    pub fn locate_command_line(&mut self, paddr: u64) -> Option<u64> {
        self.command_line_unmapped = !is_mapped(paddr, COMMAND_LINE_MAX as u64 + 1, 1);
        (paddr != 0 && !self.command_line_unmapped).then_some(paddr)
    }

    /// Copies the command line up to its NUL. If there is no NUL in the first `COMMAND_LINE_MAX + 1` bytes, only sets
    /// [`command_line_truncated`](Self::command_line_truncated).
    pub fn set_command_line(&mut self, bytes: &[u8]) {
        let len = bytes.iter().take(COMMAND_LINE_MAX + 1).position(|&byte| byte == 0);
        self.command_line_truncated = len.is_none();
        self.command_line_len = len.unwrap_or(0);
        self.command_line[..self.command_line_len].copy_from_slice(&bytes[..self.command_line_len]);
    }

    /// Returns the memory map, in the loader's order.
    #[must_use]
    pub fn regions(&self) -> &[MemoryRegion] {
        &self.regions[..self.region_count]
    }

    /// Returns whether the memory map contains every byte of a range of physical addresses.
    #[must_use]
    pub fn covers(&self, range: Range<u64>) -> bool {
        frames::covers(self.regions().iter().map(|region| region.range), range)
    }

    /// Returns whether the memory map contains any byte of the page at this address.
    #[must_use]
    pub fn has_memory_in(&self, page: u64) -> bool {
        self.regions().iter().any(|region| {
            page < region.range.start.saturating_add(region.range.len)
                && region.range.start < page.saturating_add(PAGE_SIZE)
        })
    }

    /// Returns the command line, without a terminator.
    #[must_use]
    pub fn command_line(&self) -> &[u8] {
        &self.command_line[..self.command_line_len]
    }
}

static INFO: Once<BootInfo> = Once::new();

/// Returns the loader's information.
///
/// # Panics
/// If called before [`start`].
#[must_use]
pub fn info() -> &'static BootInfo {
    INFO.get().expect("`start` must set the boot information before it calls the kernel")
}

unsafe extern "Rust" {
    /// The init sequence, defined in the binary `kernel`.
    #[cfg(target_os = "none")]
    fn kernel_main(info: &'static BootInfo) -> !;
}

/// Stores the boot information and calls `kernel_main`. The code of every boot protocol ends by calling this function:
/// on the BSP, in long mode, with the boot page tables and the boot stack, interrupts off.
#[cfg(target_os = "none")]
fn start(info: &BootInfo) -> ! {
    let info = INFO.call_once(|| BootInfo { tsc: crate::arch::cpu::tsc::now(), ..info.clone() });
    // SAFETY: the binary `kernel` defines the function with this signature.
    unsafe { kernel_main(info) }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn command_line_outside_the_boot_tables_is_not_ignored() {
        let last = (1 << 32) - (COMMAND_LINE_MAX as u64 + 1);
        let table = [
            (0, (None, false)),
            (1, (Some(1), false)),
            (last, (Some(last), false)),
            (last + 1, (None, true)),
            (1 << 32, (None, true)),
            (u64::MAX, (None, true)),
        ];
        for (paddr, expected) in table {
            let mut info = BootInfo::EMPTY;
            let start = info.locate_command_line(paddr);
            assert_eq!((start, info.command_line_unmapped), expected, "{paddr:#x}");
        }
    }

    #[test]
    fn list_is_mapped_only_if_completely_below_4_gib() {
        let table = [
            (0, 0, 24, true),
            (MAPPED_END, 0, 24, true),
            (MAPPED_END - 48, 2, 24, true),
            (MAPPED_END - 47, 2, 24, false),
            (MAPPED_END, 1, 24, false),
            (1 << 63, 1, 32, false),
            (u64::MAX - 23, 1, 24, false),
            (0x1000, u64::from(u32::MAX), 24, false),
            (0x1000, u64::MAX, 24, false),
        ];
        for (paddr, count, size, expected) in table {
            assert_eq!(
                is_mapped(paddr, count, size),
                expected,
                "{count} entries of {size} bytes at {paddr:#x}"
            );
        }
    }

    #[test]
    fn unterminated_command_line_is_truncated() {
        for (len, truncated) in
            [(0, false), (5, false), (COMMAND_LINE_MAX, false), (COMMAND_LINE_MAX + 1, true)]
        {
            let mut bytes = vec![b'x'; 2 * COMMAND_LINE_MAX];
            bytes[len] = 0;
            let mut info = BootInfo::EMPTY;
            info.set_command_line(&bytes);
            assert_eq!(
                (info.command_line().len(), info.command_line_truncated),
                (if truncated { 0 } else { len }, truncated)
            );
            assert_eq!(info.command_line(), &bytes[..info.command_line().len()]);
        }
    }
}
