use std::vec::Vec;

use object::elf::{ELFCLASS64, ELFDATA2LSB, ELFMAG, ET_EXEC, PT_NOTE};

use super::*;

/// A segment of a test file: type, address, contents, size in memory.
type Segment = (u32, u64, Vec<u8>, u64);

/// Builds an ELF file with these segments.
fn file(segments: &[Segment]) -> Vec<u8> {
    let mut file = [&ELFMAG[..], &[ELFCLASS64.0, ELFDATA2LSB.0, 1, 0], &[0; 8]].concat();
    file.extend(ET_EXEC.0.to_le_bytes());
    file.extend(EM_X86_64.0.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for word in [0, 64_u64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64, 56, segments.len() as u16, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut offset = 64 + 56 * segments.len();
    for (kind, address, data, size) in segments {
        file.extend(kind.to_le_bytes());
        file.extend(0_u32.to_le_bytes());
        for word in [offset as u64, *address, *address, data.len() as u64, *size, 4] {
            file.extend(word.to_le_bytes());
        }
        offset += data.len();
    }
    segments.iter().for_each(|(_, _, data, _)| file.extend(data));
    file
}

fn note(owner: [u8; 12], kind: u32, entry: u64) -> Segment {
    let mut note: Vec<u8> = [12_u32, 8, kind].into_iter().flat_map(u32::to_le_bytes).collect();
    note.extend(owner);
    note.extend(entry.to_le_bytes());
    (PT_NOTE.0, 0, note, 32)
}

fn load(address: u64, data: &[u8], size: u64) -> Segment {
    (PT_LOAD.0, address, data.to_vec(), size)
}

fn good_note() -> Segment {
    note(NOTE_OWNER, NOTE_UEFI_ENTRY, 0x20_0010)
}

#[test]
fn segments_are_written_where_they_belong() {
    let file = file(&[load(0x20_0010, b"boot", 4), load(0x20_2000, b"data", 0x1008), good_note()]);
    let image = Image::parse(&file).expect("the file must be valid");
    assert_eq!((image.range.clone(), image.entry), (0x20_0000..0x20_4000, 0x20_0010));
    let mut memory = std::vec![0xff; image.size()];
    image.write(&mut memory);
    assert_eq!((&memory[0x10..0x14], &memory[0x2000..0x2004]), (&b"boot"[..], &b"data"[..]));
    assert_eq!(memory.iter().filter(|&&byte| byte != 0).count(), 8);
}

#[test]
fn entry_is_the_one_in_the_loaders_note() {
    let other = |owner, kind| note(owner, kind, 0x20_0020);
    let segments = [
        load(0x20_0000, &[1; 64], 64),
        other(*b"Other\0\0\0\0\0\0\0", NOTE_UEFI_ENTRY),
        other(NOTE_OWNER, 18),
        good_note(),
    ];
    assert_eq!(Image::parse(&file(&segments)).map(|image| image.entry), Ok(0x20_0010));
    let error = |segments: &[Segment]| Image::parse(&file(segments)).err();
    assert_eq!(error(&segments[..3]), Some(ImageError::NoEntry));
    let outside = note(NOTE_OWNER, NOTE_UEFI_ENTRY, 0x30_0000);
    assert_eq!(error(&[segments[0].clone(), outside]), Some(ImageError::NoEntry));
}

#[test]
fn bad_files_are_refused() {
    let error = |segments: &[Segment]| Image::parse(&file(segments)).err();
    assert_eq!(Image::parse(b"MZ").err(), Some(ImageError::NotElf));
    assert_eq!(error(&[good_note()]), Some(ImageError::Segments));
    assert_eq!(error(&[load(0xffff_f000, b"", 0x1001), good_note()]), Some(ImageError::Segments));
    assert_eq!(error(&[load(u64::MAX, b"", 2), good_note()]), Some(ImageError::Segments));
    assert_eq!(error(&[load(0x20_0000, b"longer", 2), good_note()]), Some(ImageError::NotElf));
    let good = file(&[good_note(), load(0x20_0000, b"data", 64)]);
    assert!(Image::parse(&good).is_ok());
    assert_eq!(Image::parse(&good[..good.len() - 1]).err(), Some(ImageError::NotElf));
}
