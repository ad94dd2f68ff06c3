//! What every way to boot hands over. Nothing after this knows how the kernel was booted.

pub mod image;
#[cfg(target_os = "none")]
mod pvh;

use spin::Once;

use crate::frames::Region;

/// What a piece of physical memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Free to use.
    Usable,
    /// Tables of the firmware: to be read, not to be written.
    Firmware,
}

/// An entry of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// Where it is.
    pub range: Region,
    /// What it is for.
    pub kind: RegionKind,
}

/// What the loader says about the machine, copied out of the loader's memory.
#[derive(Clone)]
pub struct BootInfo {
    regions: [MemoryRegion; BootInfo::MAX_REGIONS],
    region_count: usize,
    command_line: [u8; BootInfo::MAX_COMMAND_LINE],
    command_line_len: usize,
    /// Was the map or the command line longer than there is room for?
    pub truncated: bool,
    /// Physical address of the ACPI RSDP; 0 if the loader does not know it.
    pub rsdp: u64,
    /// The first module: the user's program.
    pub module: Option<Region>,
    /// The time-stamp counter when the first Rust code ran.
    pub tsc: u64,
}

impl BootInfo {
    /// Usable and firmware regions that are kept. PCs have about ten, big servers some dozens.
    const MAX_REGIONS: usize = 128;
    /// Bytes of the command line that are kept.
    const MAX_COMMAND_LINE: usize = 4096;

    /// A loader that says nothing.
    pub const NOTHING: BootInfo = BootInfo {
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

    /// Adds an entry to the memory map; past the last place it only notes that the map is not whole.
    pub fn add_region(&mut self, region: MemoryRegion) {
        match self.regions.get_mut(self.region_count) {
            Some(place) => {
                *place = region;
                self.region_count += 1;
            }
            None => self.truncated = true,
        }
    }

    /// Copies the command line; one that is too long is cut and noted.
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

/// What the loader said.
///
/// # Panics
/// Before [`start`].
#[must_use]
pub fn info() -> &'static BootInfo {
    INFO.get().expect("every way to boot hands its information over first")
}

unsafe extern "Rust" {
    /// The init ladder, in the binary `kernel`.
    #[cfg(target_os = "none")]
    fn kernel_main(info: &'static BootInfo) -> !;
}

/// Where every way to boot ends: BSP, long mode, the boot tables, the boot stack, interrupts off.
#[cfg(target_os = "none")]
fn start(info: &BootInfo) -> ! {
    let info = INFO.call_once(|| BootInfo { tsc: crate::arch::cpu::tsc::now(), ..info.clone() });
    // SAFETY: the binary defines it with this signature.
    unsafe { kernel_main(info) }
}
