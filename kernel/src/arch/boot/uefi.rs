//! The UEFI boot: the loader, `kernel/efi`, contains the kernel's ELF file, ends the firmware's boot services and
//! starts the kernel at the entry point given in an ELF note.

use kernel_abi::boot::{FIRMWARE, Handover, RUNTIME_CODE, RUNTIME_DATA, RUNTIME_DEVICE, USABLE};

use super::{BootInfo, MemoryRegion, RegionKind, RuntimeKind, RuntimeRegion};
use crate::frames::Region;

/// Copies the loader's information from a [`Handover`]. If the magic number is wrong, [`found`](BootInfo::found) is
/// false.
fn boot_info(handover: &Handover) -> BootInfo {
    if handover.magic != Handover::MAGIC {
        return BootInfo::EMPTY;
    }
    let Handover { rsdp, system_table, frame_buffer, .. } = *handover;
    let mut info = BootInfo { found: true, rsdp, system_table, frame_buffer, ..BootInfo::EMPTY };
    for range in handover.memory() {
        let (kind, range) = (range.kind, Region { start: range.start, len: range.len });
        let mut usable = |kind| info.add_region(MemoryRegion { range, kind });
        match kind {
            USABLE => usable(RegionKind::Usable),
            FIRMWARE => usable(RegionKind::Firmware),
            RUNTIME_CODE => info.add_runtime_region(RuntimeRegion { range, kind: RuntimeKind::Code }),
            RUNTIME_DATA => info.add_runtime_region(RuntimeRegion { range, kind: RuntimeKind::Data }),
            RUNTIME_DEVICE => info.add_runtime_region(RuntimeRegion { range, kind: RuntimeKind::Device }),
            _ => {}
        }
    }
    if handover.truncated != 0 {
        info.system_table = 0;
    }
    info.truncated |= handover.truncated != 0;
    info.set_command_line(&handover.command_line);
    if handover.module_len != 0 {
        info.module = Some(Region { start: handover.module, len: handover.module_len });
    }
    info
}

#[cfg(target_os = "none")]
mod entry {
    use kernel_abi::boot::{Handover, NOTE_OWNER, NOTE_UEFI_ENTRY};
    use pvh::elfnote::ElfNote;

    use crate::physmap::phys_to_virt;

    unsafe extern "sysv64" {
        /// The entry point, defined in `uefi.S`. The loader jumps there in 32-bit mode; Rust code never calls it.
        fn uefi_start32() -> !;
    }

    /// The ELF note. `.boot` is linked at its load address, so the function's address is the physical address.
    #[used]
    #[unsafe(link_section = ".note.Ringside")]
    static UEFI_NOTE: ElfNote<[u8; 12], unsafe extern "sysv64" fn() -> !> =
        ElfNote::new(NOTE_UEFI_ENTRY, NOTE_OWNER, uefi_start32);

    core::arch::global_asm!(
        include_str!("uefi.S"),
        kernel_base = const crate::layout::KERNEL_BASE,
        command_line = const core::mem::offset_of!(Handover, command_line),
        uefi_start = sym uefi_start,
    );

    /// Copies the loader's [`Handover`] and starts the kernel. This is the first Rust code: `start.S` calls it once, on
    /// the boot stack, with interrupts off and no IDT.
    unsafe extern "sysv64" fn uefi_start(handover: u32) -> ! {
        // SAFETY: the loader passes the address of a `Handover`, which lies below 4 GiB, where the boot tables map all
        // physical memory. The kernel has written nothing outside its image yet, and the loader never allocates memory
        // inside the image's range.
        let handover = unsafe { &*phys_to_virt(handover.into()).cast::<Handover>() };
        super::super::start(&super::boot_info(handover))
    }
}

#[cfg(test)]
mod tests {
    use kernel_abi::boot::{FrameBuffer, MemoryRange};

    use super::*;

    #[test]
    fn handover_is_copied() {
        let frame_buffer = FrameBuffer { start: 1, len: 2, width: 3, height: 4, stride: 5, masks: [6, 7, 8] };
        let mut handover = Handover {
            rsdp: 0x1_2345_6000,
            module: 0x7000,
            module_len: 5,
            system_table: 0x9000,
            frame_buffer,
            ..Handover::EMPTY
        };
        handover.command_line[..3].copy_from_slice(b"a=b");
        handover.add(MemoryRange { start: 0x1000, len: 0x9f000, kind: USABLE });
        handover.add(MemoryRange { start: 0xa_0000, len: 0x1000, kind: FIRMWARE });
        handover.add(MemoryRange { start: 0xb_0000, len: 0x1000, kind: RUNTIME_CODE });
        handover.add(MemoryRange { start: 0xc_0000, len: 0x1000, kind: RUNTIME_DATA });
        handover.add(MemoryRange { start: 0xd_0000, len: 0x1000, kind: RUNTIME_DEVICE });
        handover.add(MemoryRange { start: 0xe_0000, len: 0x1000, kind: 5 });
        let info = boot_info(&handover);
        assert!(info.found && !info.truncated && !info.command_line_truncated && !info.command_line_unmapped);
        assert_eq!(info.rsdp, 0x1_2345_6000);
        assert_eq!(info.frame_buffer, frame_buffer);
        assert_eq!(info.command_line(), b"a=b");
        assert_eq!(info.module, Some(Region { start: 0x7000, len: 5 }));
        let kinds: std::vec::Vec<_> =
            info.regions().iter().map(|region| (region.range.start, region.kind)).collect();
        assert_eq!(kinds, [(0x1000, RegionKind::Usable), (0xa_0000, RegionKind::Firmware)]);
        let runtime: std::vec::Vec<_> =
            info.runtime_regions().iter().map(|region| (region.range.start, region.kind)).collect();
        assert_eq!(
            runtime,
            [(0xb_0000, RuntimeKind::Code), (0xc_0000, RuntimeKind::Data), (0xd_0000, RuntimeKind::Device)]
        );
        assert_eq!(info.system_table, 0x9000);
    }

    #[test]
    fn empty_program_is_not_a_module() {
        assert_eq!(boot_info(&Handover { module: 0x7000, ..Handover::EMPTY }).module, None);
    }

    #[test]
    fn memory_without_the_magic_is_not_a_handover() {
        assert!(!boot_info(&Handover { magic: 0, ..Handover::EMPTY }).found);
    }

    #[test]
    fn runtime_services_are_not_used_if_a_part_of_their_memory_is_not_known() {
        let mut handover = Handover { system_table: 0x9000, ..Handover::EMPTY };
        for n in 0..=32 {
            assert_eq!(boot_info(&handover).system_table, 0x9000, "{n} ranges");
            handover.add(MemoryRange { start: n * 0x2000, len: 0x1000, kind: RUNTIME_DATA });
        }
        assert_eq!(boot_info(&handover).system_table, 0);
        assert_eq!(boot_info(&Handover { truncated: 1, ..handover }).system_table, 0);
        let truncated = Handover { system_table: 0x9000, truncated: 1, ..Handover::EMPTY };
        assert_eq!(boot_info(&truncated).system_table, 0);
    }

    #[test]
    fn truncated_map_is_reported() {
        assert!(boot_info(&Handover { truncated: 1, ..Handover::EMPTY }).truncated);
    }
}
