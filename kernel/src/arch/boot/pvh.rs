//! The PVH boot protocol: QEMU's `-kernel` and other hypervisors start the ELF file at the entry point given in an ELF
//! note.

use core::alloc::Layout;
use core::mem::offset_of;
use core::{ptr, slice};

use kernel_abi::boot::{COMMAND_LINE_MAX, MEMORY_MIN};
use pvh::elfnote::ElfNote;
use pvh::start_info::reader::{MemMap, StartInfoReader};
use pvh::start_info::{MemmapTableEntry, MemmapType, ModlistEntry, START_MAGIC_VALUE, StartInfo};

use super::{BootInfo, MemoryRegion, RegionKind};
use crate::frames::Region;
use crate::layout::KERNEL_BASE;
use crate::physmap::phys_to_virt;

/// The type of the ELF note that holds the physical address of the 32-bit entry point (Xen's public/elfnote.h).
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

unsafe extern "sysv64" {
    /// The entry point, defined in `pvh.S`. The loader jumps there in 32-bit mode; Rust code never calls it.
    fn pvh_start32() -> !;
}

/// The number of bytes at the upper end of memory, on a machine with little memory, that the firmware reserves or
/// overwrites before it starts the kernel.
const FIRMWARE_BYTES: u64 = 256 * 1024;

/// The boot information before the start info is read. It assumes that QEMU's own loader has started the kernel.
const FROM_QEMU: BootInfo = BootInfo { has_debug_exit: true, ..BootInfo::EMPTY };

/// The value of [`MemmapType::Ram`] in a memory map entry.
const RAM: u32 = 1;

/// The ELF note. `.boot` is linked at its load address, so the function's address is the physical address that the note
/// needs.
#[used]
#[unsafe(link_section = ".note.Xen")]
static PVH_NOTE: ElfNote<[u8; 4], unsafe extern "sysv64" fn() -> !> =
    ElfNote::new(XEN_ELFNOTE_PHYS32_ENTRY, *b"Xen\0", pvh_start32);

const _: () = assert!(MEMORY_MIN == 4 << 20, "the message in pvh.S names another minimum, 4 MiB");

core::arch::global_asm!(
    include_str!("pvh.S"),
    magic = const START_MAGIC_VALUE,
    info_magic = const offset_of!(StartInfo, magic),
    info_version = const offset_of!(StartInfo, version),
    info_line = const offset_of!(StartInfo, cmdline_paddr),
    info_memmap = const offset_of!(StartInfo, memmap_paddr),
    info_entries = const offset_of!(StartInfo, memmap_entries),
    ram = const RAM,
    memory_end = const MEMORY_MIN - 2 * FIRMWARE_BYTES,
    entry_start = const offset_of!(MemmapTableEntry, addr),
    entry_size = const offset_of!(MemmapTableEntry, size),
    entry_type = const offset_of!(MemmapTableEntry, ty),
    entry_stride = const size_of::<MemmapTableEntry>(),
    kernel_base = const KERNEL_BASE,
    pvh_start = sym pvh_start,
);

/// The physical map, which is at the same address in the boot page tables and in the kernel's own.
struct PhysMap;

impl MemMap for PhysMap {
    fn ptr(&self, paddr: usize, layout: Layout) -> *const u8 {
        let pointer = phys_to_virt(paddr as u64);
        if (pointer as usize).is_multiple_of(layout.align()) { pointer } else { ptr::null() }
    }
}

/// Copies the PVH start info to a [`BootInfo`] and starts the kernel. This is the first Rust code: `start.S` calls
/// it once, on the boot stack, with interrupts off and no IDT.
unsafe extern "sysv64" fn pvh_start(start_info: u32) -> ! {
    // SAFETY: PVH guarantees a valid start info at this address, and the boot tables map the first 4 GiB of physical
    // memory, which contain it. The kernel has written nothing outside its image yet.
    let reader = unsafe { StartInfoReader::from_paddr(start_info, PhysMap) };
    let Some(reader) = reader else { super::start(&FROM_QEMU) };

    let raw = reader.raw();
    // Version 0 of the start info has no memory map.
    let memmap_entries = if raw.version < 1 { 0 } else { u64::from(raw.memmap_entries) };
    let lists = [
        ("memory map", raw.memmap_paddr, memmap_entries, size_of::<MemmapTableEntry>()),
        ("module list", raw.modlist_paddr, u64::from(raw.nr_modules), size_of::<ModlistEntry>()),
    ];
    for (name, paddr, count, size) in lists {
        if !super::is_mapped(paddr, count, size as u64) {
            super::start(&BootInfo { found: true, unmapped_list: Some(name), ..FROM_QEMU })
        }
    }
    let mut info = BootInfo { found: true, rsdp: raw.rsdp_paddr, ..FROM_QEMU };
    for entry in reader.memmap() {
        let kind = match entry.ty() {
            MemmapType::Ram => RegionKind::Usable,
            MemmapType::Acpi | MemmapType::Nvs => RegionKind::Firmware,
            _ => continue,
        };
        info.add_region(MemoryRegion { range: Region { start: entry.addr, len: entry.size }, kind });
    }
    if let Some(start) = info.locate_command_line(raw.cmdline_paddr) {
        // SAFETY: the boot tables map the first 4 GiB of physical memory, which contain these bytes, and nothing writes
        // to them in the meantime. The crate's `cmdline` is not used, because it would search for a NUL beyond the
        // limit.
        let bytes = unsafe { slice::from_raw_parts(phys_to_virt(start), COMMAND_LINE_MAX + 1) };
        info.set_command_line(bytes);
    }
    // Do not read the module's contents yet: they may lie beyond the memory that the boot tables map.
    if let Some(module) = reader.modlist().next() {
        info.module = Some(Region { start: module.raw().paddr, len: module.raw().size });
    }
    super::start(&info)
}
