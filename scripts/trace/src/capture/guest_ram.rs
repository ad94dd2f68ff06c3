//! Guest memory, that is, the file of QEMU's `memory-backend-file`, accessed by guest-physical address.
//!
//! The file contains the RAM without the PCI hole. Up to the end of low memory, file offsets equal physical addresses.
//! The memory above the hole, which the guest sees at 4 GiB, follows directly in the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;

/// The physical address at which memory continues above the PCI hole.
const HIGH: u64 = 1 << 32;
const PAGE: usize = 4096;
/// Number of bytes that a scan reads per system call.
const CHUNK: usize = 1 << 20;

/// The chipsets. They differ in the amount of memory below the hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chipset {
    /// `-machine q35`: a machine with 2.75 GiB or more has 2 GiB of low memory.
    Q35,
    /// `-machine pc`: a machine with 3.5 GiB or more has 3 GiB of low memory.
    Pc,
}

impl Chipset {
    /// Returns the chipset of a machine type given in the syntax of QEMU's `-machine`, options included. An unknown
    /// type counts as [`Chipset::Q35`]; the difference matters only for memory above the hole.
    pub fn of(machine: &str) -> Chipset {
        let name = machine.split(',').next().unwrap_or_default();
        let name = name.strip_prefix("type=").unwrap_or(name);
        if name == "pc" || name.starts_with("pc-i440fx") { Chipset::Pc } else { Chipset::Q35 }
    }

    /// Returns the amount of low memory, in bytes, of a machine with `size` bytes of memory.
    fn low(self, size: u64) -> u64 {
        let (limit, low) = match self {
            Chipset::Q35 => (0xb000_0000, 0x8000_0000),
            Chipset::Pc => (0xe000_0000, 0xc000_0000),
        };
        if size >= limit { low } else { size }
    }
}

/// The memory of a guest.
#[derive(Debug)]
pub struct GuestRam {
    file: File,
    size: u64,
    low: u64,
}

impl GuestRam {
    /// Wraps a file that is the guest's entire memory.
    pub fn new(file: File, chipset: Chipset) -> io::Result<GuestRam> {
        let size = file.metadata()?.len();
        Ok(GuestRam { file, size, low: chipset.low(size) })
    }

    /// Returns the file offset of `length` bytes at a physical address. Returns `None` if the bytes are not all RAM, or
    /// not contiguous in the file.
    pub fn offset(&self, address: u64, length: u64) -> Option<u64> {
        let end = address.checked_add(length)?;
        if end <= self.low {
            return Some(address);
        }
        let high_end = HIGH.checked_add(self.size - self.low)?;
        (address >= HIGH && end <= high_end).then(|| address - HIGH + self.low)
    }

    /// Returns the physical address of a file offset.
    fn address(&self, offset: u64) -> u64 {
        if offset < self.low { offset } else { offset - self.low + HIGH }
    }

    /// Reads bytes at a physical address.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = self.offset(address, buffer.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        #[cfg(test)]
        if let Some(write) = midway::of(buffer.len()) {
            let (first, rest) = buffer.split_at_mut(midway::PLACE);
            self.file.read_exact_at(first, offset)?;
            write();
            return self.file.read_exact_at(rest, offset + midway::PLACE as u64);
        }
        self.file.read_exact_at(buffer, offset)
    }

    /// Writes a word at a physical address. An aligned word is written with a single store.
    pub fn write_u64(&self, address: u64, value: u64) -> io::Result<()> {
        let offset = self.offset(address, 8).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.write_all_at(&value.to_le_bytes(), offset)
    }

    /// Returns the physical addresses of all pages that begin with these bytes. Memory that the guest never touched is
    /// a hole in the file, which is not read if the file system supports `SEEK_DATA`.
    pub fn pages_with(&self, start: &[u8]) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while let Some(data) = self.next_data(at) {
            let length = (self.size - data).min(CHUNK as u64) as usize;
            let chunk = &mut buffer[..length];
            self.file.read_exact_at(chunk, data)?;
            let pages = chunk.chunks(PAGE).enumerate().filter(|(_, page)| page.starts_with(start));
            found.extend(pages.map(|(n, _)| self.address(data + (n * PAGE) as u64)));
            at = data + length as u64;
        }
        Ok(found)
    }

    /// Returns the first page at or after `at` that is not in a hole of the file.
    fn next_data(&self, at: u64) -> Option<u64> {
        if at >= self.size {
            return None;
        }
        match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => Some(data - data % PAGE as u64).filter(|data| *data < self.size),
            Err(rustix::io::Errno::NXIO) => None,
            // The file system does not support `SEEK_DATA`.
            Err(_) => Some(at),
        }
    }
}

/// Lets a test write to memory while one record is being copied, which timing alone cannot reproduce.
#[cfg(test)]
pub mod midway {
    use std::cell::RefCell;

    use crate::layout::RECORD;

    /// The offset of the middle of a record: two words precede it, two follow.
    pub const PLACE: usize = 16;

    type Writer = Box<dyn FnOnce()>;

    std::thread_local! {
        static WRITER: RefCell<Option<Writer>> = const { RefCell::new(None) };
    }

    /// Calls `writer` in the middle of this thread's next copy of a single record.
    pub fn set(writer: impl FnOnce() + 'static) {
        WRITER.set(Some(Box::new(writer)));
    }

    pub fn of(length: usize) -> Option<Writer> {
        if length == RECORD { WRITER.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn ram(size: u64, chipset: Chipset) -> GuestRam {
        let file = tempfile::tempfile().expect("cannot create a file");
        // The file is sparse: nothing is written to it.
        file.set_len(size).expect("cannot set the size");
        GuestRam::new(file, chipset).expect("cannot access the memory")
    }

    #[test]
    fn machine_types_map_to_chipsets() {
        assert_eq!(Chipset::of("q35,smm=off"), Chipset::Q35);
        assert_eq!(Chipset::of("pc-q35-9.0"), Chipset::Q35);
        assert_eq!(Chipset::of("type=pc,accel=tcg"), Chipset::Pc);
        assert_eq!(Chipset::of("pc-i440fx-7.2"), Chipset::Pc);
    }

    #[test]
    fn memory_continues_above_the_hole() {
        for (chipset, edge, low) in
            [(Chipset::Q35, 2816 * MIB, 0x8000_0000), (Chipset::Pc, 3584 * MIB, 0xc000_0000u64)]
        {
            let small = ram(edge - MIB, chipset);
            assert_eq!(
                small.offset(edge - MIB - 1, 1),
                Some(edge - MIB - 1),
                "all memory must be low memory"
            );
            assert_eq!(small.offset(edge - MIB, 1), None);
            assert_eq!(small.offset(HIGH, 1), None);
            let big = ram(edge, chipset);
            assert_eq!(big.offset(low - 8, 8), Some(low - 8));
            assert_eq!(big.offset(low - 4, 8), None, "the range extends into the hole");
            assert_eq!(big.offset(HIGH, 8), Some(low));
            assert_eq!(big.offset(HIGH + (edge - low) - 8, 8), Some(edge - 8));
            assert_eq!(big.offset(HIGH + (edge - low), 1), None, "the range is beyond the end");
            assert_eq!(big.offset(u64::MAX, 8), None);
            assert_eq!(big.address(low), HIGH);
        }
    }

    #[test]
    fn pages_are_found_on_both_sides_of_the_hole_and_at_the_end() {
        let ram = ram(2816 * MIB, Chipset::Q35);
        let high_end = HIGH + 768 * MIB;
        for address in [0x3000, 0x8000_0000 - 4096, HIGH, high_end - 4096] {
            ram.write_u64(address, 0x1122_3344_5566_7788).expect("cannot write");
            // A copy of the bytes that is not at the start of a page.
            ram.write_u64(address + 64, 0x1122_3344_5566_7788).expect("cannot write");
        }
        let found = ram.pages_with(&0x1122_3344_5566_7788u64.to_le_bytes()).expect("cannot scan");
        assert_eq!(found, [0x3000, 0x8000_0000 - 4096, HIGH, high_end - 4096]);
    }
}
