//! Definitions for the start of the kernel: limits on the machine and the command line, which the host tool checks
//! before it starts QEMU, and the information that the UEFI loader passes to the kernel.

/// The longest command line in bytes, without its NUL. QEMU copies the command line of a PVH kernel to a buffer of
/// 4096 bytes (`cmdline_buffer` in its pc-bios/optionrom/pvh_main.c), and a longer command line overwrites the
/// memory after the buffer.
pub const COMMAND_LINE_MAX: usize = 4095;
/// The minimum memory of the machine, in bytes. The kernel image lies at 2 MiB, and the firmware uses the upper end
/// of memory.
pub const MEMORY_MIN: u64 = 4 << 20;
/// The maximum number of usable and firmware ranges in the memory map. PCs have about ten, large servers a few dozen.
pub const RANGES_MAX: usize = 128;

/// The owner's name in the ELF note that holds the physical address of the entry point for the UEFI loader, padded to
/// the alignment of a note's parts.
pub const NOTE_OWNER: [u8; 12] = *b"Ringside\0\0\0\0";
/// The type of that note. It differs from the type of the PVH note, because QEMU compares only types.
pub const NOTE_UEFI_ENTRY: u32 = 0x5546_4549;

/// A range of physical memory that the kernel may use or must read, or that the firmware uses when the kernel calls it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// [`USABLE`], [`FIRMWARE`], [`RUNTIME_CODE`], [`RUNTIME_DATA`] or [`RUNTIME_DEVICE`].
    pub kind: u64,
}

/// A [`MemoryRange`] of free memory, including the memory of the loader and of the firmware's boot services.
pub const USABLE: u64 = 0;
/// A [`MemoryRange`] that holds firmware tables, which the kernel only reads.
pub const FIRMWARE: u64 = 1;

/// A [`MemoryRange`] with the code of the firmware's runtime services. The services' data may lie there too.
pub const RUNTIME_CODE: u64 = 2;
/// A [`MemoryRange`] with the data of the runtime services.
pub const RUNTIME_DATA: u64 = 3;
/// A [`MemoryRange`] with device registers that the runtime services use.
pub const RUNTIME_DEVICE: u64 = 4;

/// The frame buffer that the firmware's console draws to. If there is no screen, all fields are 0. If the screen has no
/// frame buffer, `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameBuffer {
    /// Physical address.
    pub start: u64,
    /// Size in bytes.
    pub len: u64,
    /// Visible pixels per line.
    pub width: u32,
    /// Number of lines.
    pub height: u32,
    /// Pixels per line in memory.
    pub stride: u32,
    /// Bits of a 32-bit pixel that hold red, green and blue.
    pub masks: [u32; 3],
}

impl FrameBuffer {
    /// No screen.
    pub const NONE: FrameBuffer =
        FrameBuffer { start: 0, len: 0, width: 0, height: 0, stride: 0, masks: [0; 3] };
}

/// The information that the UEFI loader passes to the kernel. It lies completely below 4 GiB.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Handover {
    /// [`Handover::MAGIC`].
    pub magic: u64,
    /// Physical address of the ACPI RSDP; 0 if the firmware has none.
    pub rsdp: u64,
    /// Physical address of the user program.
    pub module: u64,
    /// Size of the user program in bytes; 0 if there is none.
    pub module_len: u64,
    /// Physical address of the UEFI system table, whose runtime services may still be called.
    pub system_table: u64,
    /// The frame buffer.
    pub frame_buffer: FrameBuffer,
    /// The command line, terminated by a NUL.
    pub command_line: [u8; COMMAND_LINE_MAX + 1],
    /// 1 if the memory map did not fit and was truncated, else 0.
    pub truncated: u64,
    /// The number of ranges in the memory map.
    pub range_count: u64,
    /// The memory map.
    pub ranges: [MemoryRange; RANGES_MAX],
}

impl Handover {
    /// Identifies the struct.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"RINGSIDE");

    /// A handover with no content.
    pub const EMPTY: Handover = Handover {
        magic: Handover::MAGIC,
        rsdp: 0,
        module: 0,
        module_len: 0,
        system_table: 0,
        frame_buffer: FrameBuffer::NONE,
        command_line: [0; COMMAND_LINE_MAX + 1],
        truncated: 0,
        range_count: 0,
        ranges: [MemoryRange { start: 0, len: 0, kind: FIRMWARE }; RANGES_MAX],
    };

    /// Adds a range to the memory map. A range that begins where a range of the same kind ends extends that range:
    /// firmware reports more than a hundred ranges, most of which are adjacent. If the map is full, only sets
    /// `truncated`.
    pub fn add(&mut self, range: MemoryRange) {
        let count = self.memory().len();
        let (used, free) = self.ranges.split_at_mut(count);
        let precedes = |old: &&mut MemoryRange| {
            old.kind == range.kind && old.start.checked_add(old.len) == Some(range.start)
        };
        if let Some(old) = used.iter_mut().find(precedes) {
            old.len = old.len.saturating_add(range.len);
        } else if let Some(place) = free.first_mut() {
            *place = range;
            self.range_count += 1;
        } else {
            self.truncated = 1;
        }
    }

    /// Returns the memory map.
    #[must_use]
    pub fn memory(&self) -> &[MemoryRange] {
        let count = usize::try_from(self.range_count).unwrap_or(RANGES_MAX).min(RANGES_MAX);
        &self.ranges[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(start: u64, len: u64, kind: u64) -> MemoryRange {
        MemoryRange { start, len, kind }
    }

    #[test]
    fn adjacent_ranges_of_a_kind_become_one() {
        let mut handover = Handover::EMPTY;
        for (start, len, kind) in [
            (0, 5, USABLE),
            (5, 5, USABLE),
            (10, 1, FIRMWARE),
            (11, 9, USABLE),
            (20, 1, USABLE),
            (30, 1, USABLE),
        ] {
            handover.add(range(start, len, kind));
        }
        let expected =
            [range(0, 10, USABLE), range(10, 1, FIRMWARE), range(11, 10, USABLE), range(30, 1, USABLE)];
        assert_eq!(handover.memory(), expected);
        assert_eq!(handover.truncated, 0);
    }

    #[test]
    fn map_that_does_not_fit_is_truncated() {
        let mut handover = Handover::EMPTY;
        for n in 0..RANGES_MAX as u64 {
            handover.add(range(n * 10, 1, USABLE));
        }
        assert_eq!((handover.memory().len(), handover.truncated), (RANGES_MAX, 0));
        handover.add(range(1, 1, USABLE));
        assert_eq!(handover.truncated, 0, "the range must extend the first one");
        handover.add(range(1 << 40, 1, USABLE));
        assert_eq!((handover.memory().len(), handover.truncated), (RANGES_MAX, 1));
        handover.range_count = u64::MAX;
        assert_eq!(handover.memory().len(), RANGES_MAX);
    }
}
