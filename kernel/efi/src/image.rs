//! The kernel's ELF file: where its segments are loaded, and where it is entered.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::Range;

use kernel_abi::boot::{NOTE_OWNER, NOTE_UEFI_ENTRY};
use object::LittleEndian;
use object::elf::{EM_X86_64, FileHeader64, PT_LOAD, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

const LE: LittleEndian = LittleEndian;
/// The end of the memory that 32-bit code can access.
const MEMORY_END: u64 = 1 << 32;

/// The reason why the file cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The file is not an ELF64 file for x86-64, or it is truncated.
    NotElf,
    /// The file has no segment to load, or a segment that does not lie completely below 4 GiB.
    Segments,
    /// The file has no valid note with the entry point for this loader.
    NoEntry,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ImageError::NotElf => "not a complete ELF64 file for x86-64",
            ImageError::Segments => "no segment to load, or a segment beyond 4 GiB",
            ImageError::NoEntry => "no note with an entry point for UEFI",
        })
    }
}

impl core::error::Error for ImageError {}

/// A kernel that can be loaded.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    file: &'a [u8],
    segments: &'a [ProgramHeader64<LittleEndian>],
    /// The physical addresses of the image, in whole pages below 4 GiB. Not empty.
    pub range: Range<u32>,
    /// The physical address of the 32-bit entry point, inside [`range`](Self::range).
    pub entry: u32,
}

impl<'a> Image<'a> {
    /// Parses and checks a file.
    ///
    /// # Errors
    /// The first [`ImageError`].
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let header = FileHeader64::<LittleEndian>::parse(file).map_err(|_| ImageError::NotElf)?;
        if header.e_machine.get(LE) != EM_X86_64 {
            return Err(ImageError::NotElf);
        }
        let segments = header.program_headers(LE, file).map_err(|_| ImageError::NotElf)?;
        let range = range(file, segments)?;
        let entry = entry(file, segments).filter(|entry| range.contains(entry)).ok_or(ImageError::NoEntry)?;
        Ok(Image { file, segments, range, entry })
    }

    /// Returns the image's size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.range.len()
    }

    /// Writes the image in the form in which the kernel expects it in memory. Bytes that no segment fills are 0.
    ///
    /// # Panics
    /// If `memory` does not have the image's [`size`](Self::size).
    pub fn write(&self, memory: &mut [u8]) {
        assert_eq!(memory.len(), self.size());
        memory.fill(0);
        for segment in loadable(self.segments) {
            // `parse` has checked that the file has the bytes and that they lie in the range.
            let data = segment.data(LE, self.file).unwrap_or_default();
            let start = (segment.p_paddr.get(LE) - u64::from(self.range.start)) as usize;
            memory[start..start + data.len()].copy_from_slice(data);
        }
    }
}

/// Returns the segments to load.
fn loadable(
    segments: &[ProgramHeader64<LittleEndian>],
) -> impl Iterator<Item = &ProgramHeader64<LittleEndian>> {
    segments.iter().filter(|segment| segment.p_type.get(LE) == PT_LOAD && segment.p_memsz.get(LE) != 0)
}

/// Returns the pages that the segments occupy.
fn range(file: &[u8], segments: &[ProgramHeader64<LittleEndian>]) -> Result<Range<u32>, ImageError> {
    let (mut start, mut end) = (MEMORY_END, 0);
    for segment in loadable(segments) {
        let data = segment.data(LE, file).map_err(|()| ImageError::NotElf)?;
        let (first, size) = (segment.p_paddr.get(LE), segment.p_memsz.get(LE));
        let last =
            first.checked_add(size).filter(|&end| end <= MEMORY_END - 4096).ok_or(ImageError::Segments)?;
        if data.len() as u64 > size {
            return Err(ImageError::NotElf);
        }
        start = start.min(first & !4095);
        end = end.max(last.next_multiple_of(4096));
    }
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), Ok(end)) if start < end => Ok(start..end),
        _ => Err(ImageError::Segments),
    }
}

/// Returns the entry point in this loader's note.
fn entry(file: &[u8], segments: &[ProgramHeader64<LittleEndian>]) -> Option<u32> {
    let owner = NOTE_OWNER.split(|&byte| byte == 0).next()?;
    for segment in segments {
        let Ok(Some(mut notes)) = segment.notes(LE, file) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == owner && note.n_type(LE).0 == NOTE_UEFI_ENTRY {
                return u32::try_from(u64::from_le_bytes(note.desc().try_into().ok()?)).ok();
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
