//! The Multiboot2 boot protocol: GRUB loads the ELF file and jumps to the entry point that the header in `multiboot2.S`
//! names.
//!
//! The kernel reads only five tags of the boot information, so this module parses it. The crate `multiboot2` would add
//! eight packages to the kernel's build, among them a second ELF parser and a second version of `syn`.

use kernel_abi::boot::FrameBuffer;

use super::{BootInfo, MemoryRegion, RegionKind};
use crate::frames::Region;

/// Types of the tags in the boot information (specification, 3.6).
mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const FRAME_BUFFER: u32 = 8;
    pub const RSDP_V1: u32 = 14;
    pub const RSDP_V2: u32 = 15;
}

/// Types of the entries in the memory map (specification, 3.6.8).
mod memory {
    pub const RAM: u32 = 1;
    pub const ACPI: u32 = 3;
    pub const NVS: u32 = 4;
}

/// Parses the boot information at the physical address `start`. Returns `None` if a tag extends beyond the end.
fn parse(bytes: &[u8], start: u64) -> Option<BootInfo> {
    let mut info = BootInfo { found: true, ..BootInfo::EMPTY };
    // The boot information is reserved, because it contains the copy of the RSDP.
    let boot_info = Region { start, len: bytes.len() as u64 };
    info.add_region(MemoryRegion { range: boot_info, kind: RegionKind::Firmware });
    // The first 8 bytes are the length and a reserved word.
    let mut at = 8;
    loop {
        let (kind, size) = (word(bytes, at)?, word(bytes, at + 4)? as usize);
        let content = bytes.get(at + 8..at.checked_add(size)?)?;
        match kind {
            tag::END => return Some(info),
            tag::COMMAND_LINE => info.set_command_line(content),
            tag::MODULE if info.module.is_none() => {
                let (start, end) = (word(content, 0)?, word(content, 4)?);
                info.module = Some(Region { start: start.into(), len: end.checked_sub(start)?.into() });
            }
            tag::MEMORY_MAP => add_regions(&mut info, content)?,
            tag::FRAME_BUFFER => info.frame_buffer = frame_buffer(content)?,
            // Prefer the RSDP of ACPI 2.0, which has the address of the XSDT.
            tag::RSDP_V2 => info.rsdp = start + at as u64 + 8,
            tag::RSDP_V1 if info.rsdp == 0 => info.rsdp = start + at as u64 + 8,
            _ => {}
        }
        at = at.checked_add(size)?.checked_next_multiple_of(8)?;
    }
}

/// Parses the frame buffer tag (specification, 3.6.12). Returns `None` if the tag is not valid. A text mode counts as
/// no frame buffer. A mode that does not have 32-bit RGB pixels gets empty colour masks, which
/// [`Mode`](crate::screen::Mode) rejects later.
fn frame_buffer(content: &[u8]) -> Option<FrameBuffer> {
    const RGB: u8 = 1;
    const TEXT: u8 = 2;
    let (pitch, width, height) = (word(content, 8)?, word(content, 12)?, word(content, 16)?);
    let [depth, kind] = *content.get(20..)?.first_chunk()?;
    let masks = match (kind, depth) {
        (TEXT, _) => return Some(FrameBuffer::NONE),
        (RGB, 32) => {
            content.get(24..)?.first_chunk::<6>()?.as_chunks().0.iter().fold([0; 3], |masks, field| {
                let [position, size]: [u8; 2] = *field;
                let bits = 1_u32.checked_shl(size.into()).map_or(u32::MAX, |bit| bit - 1);
                [masks[1], masks[2], bits.checked_shl(position.into()).unwrap_or(0)]
            })
        }
        _ => [0; 3],
    };
    let len = u64::from(pitch) * u64::from(height);
    Some(FrameBuffer { start: long(content, 0)?, len, width, height, stride: pitch / 4, masks })
}

/// Adds the entries of the memory map tag. Returns `None` if the tag is not valid.
fn add_regions(info: &mut BootInfo, content: &[u8]) -> Option<()> {
    let entry_size = word(content, 0)? as usize;
    if entry_size < 24 {
        return None;
    }
    // The entry's size and version precede the entries.
    for entry in content.get(8..)?.chunks_exact(entry_size) {
        let range = Region { start: long(entry, 0)?, len: long(entry, 8)? };
        let kind = match word(entry, 16)? {
            memory::RAM => RegionKind::Usable,
            memory::ACPI | memory::NVS => RegionKind::Firmware,
            _ => continue,
        };
        info.add_region(MemoryRegion { range, kind });
    }
    Some(())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|long| u64::from_le_bytes(*long))
}

#[cfg(target_os = "none")]
mod entry {
    use crate::arch::boot::{BootInfo, start};
    use crate::physmap::phys_to_virt;

    /// The maximum accepted size of the boot information, in bytes. GRUB passes a few KiB.
    const INFO_MAX: u32 = 16 << 20;

    core::arch::global_asm!(
        include_str!("multiboot2.S"),
        // The constants from the specification (3.1.1, 3.1.3, 3.1.5, 3.1.10, 3.3).
        header_magic = const 0xe852_50d6_u32,
        i386 = const 0,
        entry_tag = const 3,
        frame_buffer_tag = const 5,
        optional = const 1,
        command_line_tag = const super::tag::COMMAND_LINE,
    loader_magic = const 0x36d7_6289,
        kernel_base = const crate::layout::KERNEL_BASE,
        multiboot2_start = sym multiboot2_start,
    );

    /// Copies the boot information and starts the kernel. This is the first Rust code: `start.S` calls it once, on the
    /// boot stack, with interrupts off and no IDT.
    unsafe extern "sysv64" fn multiboot2_start(info: u32) -> ! {
        // SAFETY: `multiboot2.S` has passed the loader's address, the boot tables are in use, and the kernel has
        // written nothing outside its image yet.
        let info = unsafe { read(info) };
        start(&info.unwrap_or(BootInfo::EMPTY))
    }

    /// Reads the boot information. Returns `None` if it is not valid.
    ///
    /// # Safety
    /// `start` is 0 or the address that a Multiboot2 loader has passed. The boot tables are in use, and the kernel has
    /// written nothing outside its image.
    unsafe fn read(start: u32) -> Option<BootInfo> {
        if start == 0 || !start.is_multiple_of(8) {
            return None;
        }
        let pointer = phys_to_virt(start.into());
        // SAFETY: the loader guarantees boot information at this address, which begins with its length. The boot
        // tables map the first 4 GiB of physical memory, which contain it.
        let len = unsafe { pointer.cast::<u32>().read() };
        if len > INFO_MAX || start.checked_add(len).is_none() {
            return None;
        }
        // SAFETY: the loader guarantees that the boot information has this length, and nothing writes to it: the
        // kernel has written nothing outside its image yet. The boot tables map it.
        super::parse(unsafe { core::slice::from_raw_parts(pointer, len as usize) }, start.into())
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const START: u64 = 0x10_0000;

    /// Builds boot information with these tags and the end tag.
    fn built(tags: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = std::vec![0; 8];
        for (kind, content) in tags.iter().chain([&(tag::END, &[][..])]) {
            bytes.extend(kind.to_le_bytes());
            bytes.extend((content.len() as u32 + 8).to_le_bytes());
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn tags_are_read() {
        let map =
            words(&[24, 0, 0x1000, 0, 0x9e000, 0, 1, 0, 0x7fe_0000, 1, 0x2000, 0, 3, 0, 0, 0, 1, 0, 2, 0]);
        let module = [&words(&[0x40_0000, 0x40_1234])[..], b"name\0"].concat();
        let bytes = built(&[
            (tag::COMMAND_LINE, b"program=hello -- x\0"),
            (99, b"unknown"),
            (tag::MODULE, &module),
            (tag::MODULE, &words(&[1, 2])),
            (tag::RSDP_V2, &[0; 36]),
            (tag::RSDP_V1, &[0; 20]),
            (tag::MEMORY_MAP, &map),
        ]);
        let info = parse(&bytes, START).expect("the information must be valid");
        assert!(info.found && !info.command_line_truncated);
        assert_eq!(info.command_line(), b"program=hello -- x");
        assert_eq!(info.module, Some(Region { start: 0x40_0000, len: 0x1234 }));
        let is_rsdp = |at: &usize| bytes[*at..*at + 4] == tag::RSDP_V2.to_le_bytes();
        let rsdp = (8..bytes.len()).step_by(8).find(is_rsdp).expect("no RSDP tag");
        assert_eq!(info.rsdp, START + rsdp as u64 + 8);
        let usable = MemoryRegion { range: Region { start: 0x1000, len: 0x9e000 }, kind: RegionKind::Usable };
        let acpi =
            MemoryRegion { range: Region { start: 0x1_07fe_0000, len: 0x2000 }, kind: RegionKind::Firmware };
        let boot_info = Region { start: START, len: bytes.len() as u64 };
        assert_eq!(
            info.regions(),
            [MemoryRegion { range: boot_info, kind: RegionKind::Firmware }, usable, acpi]
        );
    }

    #[test]
    fn frame_buffer_is_read() {
        let tag = |depth: u8, kind: u8, fields: [u8; 6]| {
            let mut content = words(&[0xfd00_0000, 1, 5120, 1280, 800]);
            content.extend([depth, kind, 0, 0]);
            content.extend(fields);
            content
        };
        let read = |content: &[u8]| {
            parse(&built(&[(tag::FRAME_BUFFER, content)]), START).map(|info| info.frame_buffer)
        };
        let expected = |masks| {
            let (start, len) = (0x1_fd00_0000, 5120 * 800);
            Some(FrameBuffer { start, len, width: 1280, height: 800, stride: 1280, masks })
        };
        let bgr = [16, 8, 8, 8, 0, 8];
        assert_eq!(read(&tag(32, 1, bgr)), expected([0xff_0000, 0xff00, 0xff]));
        assert_eq!(read(&tag(32, 1, [0, 32, 40, 8, 8, 255])), expected([u32::MAX, 0, 0xffff_ff00]));
        assert_eq!(read(&tag(24, 1, bgr)), expected([0; 3]));
        assert_eq!(read(&tag(8, 0, bgr)), expected([0; 3]));
        assert_eq!(read(&tag(16, 2, bgr)), Some(FrameBuffer::NONE));
        assert_eq!(read(&tag(32, 1, bgr)[..29]), None);
        assert_eq!(read(&tag(32, 1, bgr)[..21]), None);
    }

    #[test]
    fn invalid_information_is_rejected() {
        assert!(parse(&built(&[]), START).is_some());
        for bytes in [
            Vec::new(),
            words(&[8, 0]),
            words(&[16, 0, 0, 7]),
            words(&[16, 0, 1, 9]),
            words(&[16, 0, 1, u32::MAX]),
            built(&[(tag::MEMORY_MAP, &words(&[0, 0]))]),
            built(&[(tag::MEMORY_MAP, &words(&[16, 0, 0, 0, 0, 0]))]),
            built(&[(tag::MODULE, &words(&[2, 1]))]),
        ] {
            assert!(parse(&bytes, START).is_none(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            // Small sizes and types reach the content of the tags.
            for at in (8..bytes.len().saturating_sub(8)).step_by(8) {
                bytes[at] %= 16;
                bytes[at + 1..at + 4].fill(0);
                bytes[at + 5..at + 8].fill(0);
            }
            let _ = parse(&bytes, START);
        }
    }
}
