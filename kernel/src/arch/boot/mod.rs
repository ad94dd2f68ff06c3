//! The information that each boot protocol passes to the kernel. Nothing after this module depends on the protocol.

pub mod image;
#[cfg(target_os = "none")]
mod pvh;

use spin::Once;

use crate::frames::Region;

/// The use of a range of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Free memory.
    Usable,
    /// The firmware's tables, which the kernel only reads.
    Firmware,
}

/// An entry of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// The physical addresses.
    pub range: Region,
    /// Its use.
    pub kind: RegionKind,
}

/// What the loader reports about the machine, copied from the loader's memory.
#[derive(Clone)]
pub struct BootInfo {
    regions: [MemoryRegion; BootInfo::MAX_REGIONS],
    region_count: usize,
    command_line: [u8; BootInfo::MAX_COMMAND_LINE],
    command_line_len: usize,
    /// The memory map or the command line did not fit and was cut.
    pub truncated: bool,
    /// Physical address of the ACPI RSDP; 0 if the loader does not know it.
    pub rsdp: u64,
    /// The first module, which holds the user's program.
    pub module: Option<Region>,
    /// The time-stamp counter when the first Rust code ran.
    pub tsc: u64,
}

impl BootInfo {
    /// How many usable and firmware regions fit. PCs have about ten, large servers some dozens.
    const MAX_REGIONS: usize = 128;
    /// How many bytes of the command line fit.
    const MAX_COMMAND_LINE: usize = 4096;

    /// The information of a loader that passes none.
    pub const EMPTY: BootInfo = BootInfo {
        regions: [MemoryRegion { range: Region { start: 0, len: 0 }, kind: RegionKind::Firmware };
            BootInfo::MAX_REGIONS],
        region_count: 0,
        command_line: [0; BootInfo::MAX_COMMAND_LINE],
        command_line_len: 0,
        truncated: false,
        rsdp: 0,
        module: None,
        tsc: 0,
    };

    /// Adds an entry to the memory map. If the map is full, it only sets [`truncated`](Self::truncated).
    pub fn add_region(&mut self, region: MemoryRegion) {
        match self.regions.get_mut(self.region_count) {
            Some(place) => {
                *place = region;
                self.region_count += 1;
            }
            None => self.truncated = true,
        }
    }

    /// Copies the command line. One that is too long is cut, which sets [`truncated`](Self::truncated).
    pub fn set_command_line(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(Self::MAX_COMMAND_LINE);
        self.command_line[..len].copy_from_slice(&bytes[..len]);
        self.command_line_len = len;
        self.truncated |= len < bytes.len();
    }

    /// The memory map, in the loader's order.
    #[must_use]
    pub fn regions(&self) -> &[MemoryRegion] {
        &self.regions[..self.region_count]
    }

    /// The command line, without a terminator.
    #[must_use]
    pub fn command_line(&self) -> &[u8] {
        &self.command_line[..self.command_line_len]
    }
}

static INFO: Once<BootInfo> = Once::new();

/// Returns the loader's information.
///
/// # Panics
/// Before [`start`].
#[must_use]
pub fn info() -> &'static BootInfo {
    INFO.get().expect("`start` sets the boot information before it calls the kernel")
}

unsafe extern "Rust" {
    /// The init ladder, in the binary `kernel`.
    #[cfg(target_os = "none")]
    fn kernel_main(info: &'static BootInfo) -> !;
}

/// Keeps the loader's information and calls `kernel_main`. Every boot protocol ends here: on the BSP, in long mode, on
/// the boot tables and the boot stack, with interrupts off.
#[cfg(target_os = "none")]
fn start(info: &BootInfo) -> ! {
    let info = INFO.call_once(|| BootInfo { tsc: crate::arch::cpu::tsc::now(), ..info.clone() });
    // SAFETY: the binary `kernel` defines the function with this signature.
    unsafe { kernel_main(info) }
}
