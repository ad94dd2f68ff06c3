//! The smallest kernel that QEMU starts as it starts Ringside: a PVH kernel that writes one byte to the first serial port
//! and ends the machine. The bytes of its ELF file are built here, without an assembler.

/// The address at which the kernel is loaded.
const BASE: u32 = 0x20_0000;
/// The sizes of ELF64's structures in bytes.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// The note: sizes of name and value, type 18 (`XEN_ELFNOTE_PHYS32_ENTRY`), the name, and the entry point.
const NOTE: usize = 3 * 4 + 4 + 4;
const NOTE_AT: usize = HEADER + 2 * PROGRAM_HEADER;
const CODE_AT: usize = NOTE_AT + NOTE;
const ENTRY: u32 = BASE + CODE_AT as u32;

/// The byte that the kernel writes.
pub const BYTE: u8 = b'!';

/// 32-bit code: writes [`BYTE`] to COM1 (0x3f8), and the value for success to QEMU's exit device (0xf4).
const CODE: [u8; 18] = [
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, BYTE, // mov al, BYTE
    0xee, // out dx, al
    0x66, 0xba, 0xf4, 0x00, // mov dx, 0xf4
    0xb0, 0x10, // mov al, 0x10
    0xee, // out dx, al
    0xfa, // cli
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
];

/// Returns the kernel's ELF file.
#[must_use]
pub fn elf() -> Vec<u8> {
    let mut file = Vec::new();
    let size = (CODE_AT + CODE.len()) as u64;
    // The identification, an executable for x86-64, version 1.
    file.extend(*b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    put16(&mut file, &[2, 62]);
    put32(&mut file, &[1]);
    // Entry point, program headers, no section headers.
    put64(&mut file, &[ENTRY.into(), HEADER as u64, 0]);
    put32(&mut file, &[0]);
    put16(&mut file, &[HEADER as u16, PROGRAM_HEADER as u16, 2, 0, 0, 0]);
    assert_eq!(file.len(), HEADER, "the ELF header must be complete");
    // The whole file is one segment: PT_LOAD, readable, writable and executable.
    put32(&mut file, &[1, 7]);
    put64(&mut file, &[0, BASE.into(), BASE.into(), size, size, 0x1000]);
    // PT_NOTE, readable.
    put32(&mut file, &[4, 4]);
    let note = u64::from(BASE) + NOTE_AT as u64;
    put64(&mut file, &[NOTE_AT as u64, note, note, NOTE as u64, NOTE as u64, 4]);
    assert_eq!(file.len(), NOTE_AT, "the program headers must be complete");
    put32(&mut file, &[4, 4, 18]);
    file.extend(*b"Xen\0");
    put32(&mut file, &[ENTRY]);
    assert_eq!(file.len(), CODE_AT, "the note must be complete");
    file.extend(CODE);
    file
}

fn put16(file: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|value| file.extend(value.to_le_bytes()));
}

fn put32(file: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| file.extend(value.to_le_bytes()));
}

fn put64(file: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|value| file.extend(value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};
    use object::{Object, ObjectSegment};

    use super::*;

    #[test]
    fn file_is_an_elf_with_one_segment_that_contains_the_entry_point() {
        let bytes = elf();
        let file = object::File::parse(&*bytes).expect("it must be an ELF file");
        let segments: Vec<_> =
            file.segments().map(|segment| segment.address()..segment.address() + segment.size()).collect();
        assert_eq!(file.entry(), u64::from(ENTRY));
        assert!(segments.len() == 1 && segments[0].contains(&file.entry()), "{segments:?}");
        assert_eq!(bytes[NOTE_AT..][..12], [4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    }

    #[test]
    fn code_is_valid() {
        let decoder = Decoder::with_ip(32, &CODE, u64::from(ENTRY), DecoderOptions::NONE);
        let mnemonics: Vec<_> = decoder.into_iter().map(|instruction| instruction.mnemonic()).collect();
        use Mnemonic::{Cli, Hlt, Jmp, Mov, Out};
        assert_eq!(mnemonics, [Mov, Mov, Out, Mov, Mov, Out, Cli, Hlt, Jmp]);
    }
}
