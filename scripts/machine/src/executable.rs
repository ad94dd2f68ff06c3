//! Strips ELF files.

use object::elf::{FileHeader64, PT_NULL, SymbolSection};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, pod};

use crate::error::Error;

/// Returns the parts of an ELF file that a loader reads, which are the headers and the segments. The sections after
/// them are removed.
pub fn stripped(elf: &[u8]) -> Result<Vec<u8>, Error> {
    let bad = |_| Error::Host("the linker's output is not an ELF file".to_owned());
    let header = FileHeader64::<Endianness>::parse(elf).map_err(bad)?;
    let endian = header.endian().map_err(bad)?;
    let segments = header.program_headers(endian, elf).map_err(bad)?;
    let table_end = header.e_phoff(endian).saturating_add(size_of_val(segments) as u64);
    let end = segments
        .iter()
        .filter(|segment| segment.p_type(endian) != PT_NULL)
        .map(|segment| segment.p_offset(endian).saturating_add(segment.p_filesz(endian)))
        .fold(table_end, u64::max);
    let mut header = *header;
    header.e_shoff.set(endian, 0);
    header.e_shnum.set(endian, 0);
    header.e_shstrndx.set(endian, SymbolSection(0));
    let end = usize::try_from(end).ok().filter(|&end| end <= elf.len());
    let body = end.and_then(|end| elf.get(size_of_val(&header)..end));
    let body = body.ok_or_else(|| Error::Host("the linker's output is truncated".to_owned()))?;
    Ok([pod::bytes_of(&header), body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripping_keeps_the_segments() {
        let original = std::fs::read(std::env::current_exe().expect("cannot find the test executable"))
            .expect("cannot read the test executable");
        let cut = stripped(&original).expect("the test executable must be an ELF file");
        assert!(cut.len() < original.len());
        let header = FileHeader64::<Endianness>::parse(&*cut).expect("the stripped file must be an ELF file");
        let segments =
            header.program_headers(Endianness::Little, &*cut).expect("the stripped file must have segments");
        for segment in segments {
            assert!(segment.data(Endianness::Little, &*cut).is_ok());
        }
        assert_eq!(stripped(&cut).expect("cannot strip a stripped file"), cut);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(stripped(b"#!/bin/sh\n").is_err());
        assert!(stripped(b"").is_err());
    }
}
