//! Tests with invalid files. Each is derived from a valid file by one change.

use std::string::ToString;
use std::vec::Vec;

use object::{U16, U32, U64};
use proptest::prelude::*;

use super::*;
use crate::properties;

type Header = FileHeader64<LittleEndian>;
type Segments = Vec<ProgramHeader64<LittleEndian>>;

const BASE: u64 = 0x1_0000_0000;
const R: u32 = 4;
const RX: u32 = 5;
const RW: u32 = 6;

fn load(flags: u32, offset: u64, vaddr: u64, file_size: u64, mem_size: u64) -> ProgramHeader64<LittleEndian> {
    ProgramHeader64 {
        p_type: U32::new(LE, elf::PT_LOAD),
        p_flags: U32::new(LE, elf::ProgramFlags(flags)),
        p_offset: U64::new(LE, offset),
        p_vaddr: U64::new(LE, vaddr),
        p_paddr: U64::new(LE, 0),
        p_filesz: U64::new(LE, file_size),
        p_memsz: U64::new(LE, mem_size),
        p_align: U64::new(LE, 4096),
    }
}

/// Returns a program file of 0x1200 bytes: headers, code, and data that is zero-extended in memory. `change` modifies
/// the headers.
pub(crate) fn elf_with(change: impl FnOnce(&mut Header, &mut Segments)) -> Vec<u8> {
    let ident = elf::Ident {
        magic: elf::ELFMAG,
        class: elf::ELFCLASS64,
        data: elf::ELFDATA2LSB,
        version: elf::EV_CURRENT,
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        padding: [0; 7],
    };
    let mut header = FileHeader64 {
        e_ident: ident,
        e_type: U16::new(LE, elf::ET_EXEC),
        e_machine: U16::new(LE, elf::EM_X86_64),
        e_version: U32::new(LE, 1),
        e_entry: U64::new(LE, BASE + 0x1010),
        e_phoff: U64::new(LE, 64),
        e_shoff: U64::new(LE, 0),
        e_flags: U32::new(LE, elf::FileFlags(0)),
        e_ehsize: U16::new(LE, 64),
        e_phentsize: U16::new(LE, 56),
        e_phnum: U16::new(LE, 0),
        e_shentsize: U16::new(LE, 0),
        e_shnum: U16::new(LE, 0),
        e_shstrndx: U16::new(LE, elf::SymbolSection(0)),
    };
    let mut segments = std::vec![
        load(R, 0, BASE, 0x200, 0x200),
        load(RX, 0x1000, BASE + 0x1000, 0x100, 0x100),
        load(RW, 0x1100, BASE + 0x2100, 0x100, 0x2000),
    ];
    header.e_phnum.set(LE, 3);
    change(&mut header, &mut segments);
    let mut file = pod::bytes_of(&header).to_vec();
    file.extend(pod::bytes_of_slice(&segments));
    file.resize(file.len().max(0x1200), 0x90);
    file
}

/// Returns the result of parsing a program with one changed program header.
fn with_segment(index: usize, changed: ProgramHeader64<LittleEndian>) -> Result<(), LoadError> {
    Image::parse(&elf_with(|_, segments| segments[index] = changed)).map(|_| ())
}

fn with_header(change: impl FnOnce(&mut Header)) -> Result<(), LoadError> {
    Image::parse(&elf_with(|header, _| change(header))).map(|_| ())
}

#[test]
fn valid_program_is_accepted() {
    let file = elf_with(|_, _| {});
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.entry(), BASE + 0x1010);
    let segments: Vec<_> = image.segments().collect();
    assert_eq!(segments.len(), 3);
    assert_eq!(
        segments.iter().map(|s| (s.writable, s.executable)).collect::<Vec<_>>(),
        [(false, false), (false, true), (true, false)]
    );
    let data = segments[2];
    assert_eq!((data.vaddr, data.mem_size, data.data), (BASE + 0x2100, 0x2000, &file[0x1100..0x1200]));
    assert_eq!((data.first_page(), data.end_page()), (BASE + 0x2000, BASE + 0x5000));
    assert_eq!(image.pages(), 5);
    assert_eq!(image.program_headers(), (3, Some(BASE + 64)));
}

#[test]
fn any_alignment_in_memory_is_accepted() {
    let file = elf_with(|_, _| {});
    for shift in 0..8 {
        let mut moved = std::vec![0; shift];
        moved.extend(&file);
        assert!(Image::parse(&moved[shift..]).is_ok());
    }
}

#[test]
fn truncated_files_are_rejected() {
    let file = elf_with(|_, _| {});
    // Miri is about a thousand times slower, so test fewer lengths there.
    for len in (0..file.len()).step_by(if cfg!(miri) { 61 } else { 1 }) {
        let expected = if len < 4 { LoadError::NotElf } else { LoadError::Truncated { len } };
        assert_eq!(Image::parse(&file[..len]).unwrap_err(), expected);
    }
}

#[test]
fn unsupported_file_types_are_rejected() {
    assert_eq!(Image::parse(b"#!/bin/sh\n").unwrap_err(), LoadError::NotElf);
    assert_eq!(with_header(|h| h.e_ident.class = elf::ELFCLASS32), Err(LoadError::NotElf64));
    assert_eq!(with_header(|h| h.e_ident.data = elf::ELFDATA2MSB), Err(LoadError::NotLittleEndian));
    assert_eq!(with_header(|h| h.e_ident.version.0 = 0), Err(LoadError::UnknownVersion));
    assert_eq!(with_header(|h| h.e_version.set(LE, 9)), Err(LoadError::UnknownVersion));
    assert_eq!(with_header(|h| h.e_ehsize.set(LE, 52)), Err(LoadError::UnknownVersion));
    assert_eq!(with_header(|h| h.e_phentsize.set(LE, 32)), Err(LoadError::UnknownVersion));
    assert_eq!(with_header(|h| h.e_ident.os_abi = elf::ELFOSABI_FREEBSD), Err(LoadError::OtherAbi(9)));
    assert_eq!(with_header(|h| h.e_ident.os_abi = elf::ELFOSABI_GNU), Ok(()));
    assert_eq!(with_header(|h| h.e_ident.abi_version = 1), Err(LoadError::OtherAbi(0)));
    assert_eq!(with_header(|h| h.e_machine.set(LE, elf::EM_AARCH64)), Err(LoadError::WrongMachine(183)));
    assert_eq!(with_header(|h| h.e_type.set(LE, elf::ET_REL)), Err(LoadError::NotExecutable(1)));
    assert_eq!(with_header(|h| h.e_type.set(LE, elf::ET_DYN)), Err(LoadError::Dynamic));
    assert_eq!(with_header(|h| h.e_phnum.set(LE, 0)), Err(LoadError::NoSegment));
    assert_eq!(with_header(|h| h.e_phnum.set(LE, 65)), Err(LoadError::TooManyHeaders(65)));
    assert!(matches!(with_header(|h| h.e_phoff.set(LE, u64::MAX)), Err(LoadError::Truncated { .. })));
}

#[test]
fn dynamic_linking_and_missing_segments_are_rejected() {
    for kind in [elf::PT_INTERP, elf::PT_DYNAMIC] {
        let file = elf_with(|_, segments| segments[2].p_type.set(LE, kind));
        assert_eq!(Image::parse(&file).unwrap_err(), LoadError::Dynamic);
    }
    let file = elf_with(|_, segments| segments.iter_mut().for_each(|s| s.p_type.set(LE, elf::PT_NOTE)));
    assert_eq!(Image::parse(&file).unwrap_err(), LoadError::NoSegment);
    let file = elf_with(|_, segments| segments.iter_mut().for_each(|s| *s = load(RX, u64::MAX, 0, 0, 0)));
    assert_eq!(Image::parse(&file).unwrap_err(), LoadError::NoSegment);
}

#[test]
fn segments_outside_the_allowed_range_are_rejected() {
    let stack = STACK_TOP - STACK_SIZE;
    let outside = [
        0,
        USER_START - 1,
        USER_END - 0xfff,
        USER_END,
        1 << 47,
        0xffff_ffff_8000_0000,
        u64::MAX,
        u64::MAX - 0xfff,
    ];
    for vaddr in outside {
        let place = Place { header: 2, vaddr, mem_size: 0x1000 };
        assert_eq!(with_segment(2, load(RW, 0, vaddr, 0, 0x1000)), Err(LoadError::OutsideUserSpace(place)));
    }
    let wrapping = Place { header: 2, vaddr: BASE, mem_size: u64::MAX - BASE + 1 };
    let result = with_segment(2, load(RW, 0, BASE, 0, wrapping.mem_size));
    assert_eq!(result, Err(LoadError::OutsideUserSpace(wrapping)));
    let reserved = [
        SHARED_PAGE,
        SHARED_PAGE - 0xfff,
        SHARED_PAGE + 0xfff,
        stack,
        STACK_TOP - 1,
        stack - 0x1000,
        stack - 0x1fff,
    ];
    for vaddr in reserved {
        let place = Place { header: 2, vaddr, mem_size: 0x1000 };
        assert_eq!(
            with_segment(2, load(RW, 0, vaddr, 0, 0x1000)),
            Err(LoadError::Reserved(place)),
            "{vaddr:#x}"
        );
    }
    for vaddr in
        [USER_START, USER_END - 0x1000, SHARED_PAGE - 0x1000, SHARED_PAGE + 0x1000, STACK_TOP, stack - 0x2000]
    {
        assert_eq!(with_segment(2, load(RW, 0, vaddr, 0, 0x1000)), Ok(()), "{vaddr:#x}");
    }
}

#[test]
fn too_large_segments_are_rejected() {
    let place = Place { header: 2, vaddr: BASE + 0x2000, mem_size: 0x10 };
    let cases = [
        (load(RW, 0, BASE + 0x2000, 0x11, 0x10), LoadError::FileSizeExceedsMemory(place)),
        (load(RW | 1, 0, BASE + 0x2000, 0x10, 0x10), LoadError::WritableAndExecutable(place)),
        (load(RW, 0x11f1, BASE + 0x2000, 0x10, 0x10), LoadError::Truncated { len: 0x1200 }),
        (load(RW, u64::MAX, BASE + 0x2000, 0x10, 0x10), LoadError::Truncated { len: 0x1200 }),
        (load(RW, 0, BASE + 0x2000, 0, MEMORY_MAX - 0x1fff), LoadError::TooMuchMemory),
        (load(RW, 0, SHARED_PAGE + 0x1000, 0, 1 << 46), LoadError::TooMuchMemory),
    ];
    for (changed, expected) in cases {
        assert_eq!(with_segment(2, changed), Err(expected));
    }
    assert_eq!(with_segment(2, load(RW, 0, BASE + 0x2000, 0, MEMORY_MAX - 0x2000)), Ok(()));
}

#[test]
fn requests_that_the_kernel_does_not_fulfil_are_rejected() {
    let request = |kind, flags, file_size, mem_size| {
        let file = elf_with(|header, segments| {
            header.e_phnum.set(LE, 4);
            let mut request = load(flags, 0x1100, BASE + 0x2100, file_size, mem_size);
            request.p_type.set(LE, kind);
            segments.push(request);
        });
        Image::parse(&file).map(|_| ())
    };
    let tls = Place { header: 3, vaddr: BASE + 0x2100, mem_size: 8 };
    assert_eq!(request(elf::PT_TLS, R, 4, 8), Err(LoadError::ThreadLocal(tls)));
    assert_eq!(
        request(elf::PT_TLS, R, 4, 0),
        Err(LoadError::ThreadLocal(Place { mem_size: 0, ..tls })),
        "contents only in the file"
    );
    assert_eq!(request(elf::PT_TLS, R, 0, 0), Ok(()), "no contents");
    for flags in [RW | 1, RX, 1] {
        assert_eq!(request(elf::PT_GNU_STACK, flags, 0, 0), Err(LoadError::ExecutableStack { header: 3 }));
    }
    let size = STACK_SIZE + 1;
    assert_eq!(request(elf::PT_GNU_STACK, RW, 0, size), Err(LoadError::StackSize { header: 3, size }));
    for size in [0, 1, STACK_SIZE] {
        assert_eq!(request(elf::PT_GNU_STACK, RW, 0, size), Ok(()), "{size}");
    }
    for kind in [elf::PT_NOTE, elf::PT_PHDR, elf::PT_GNU_RELRO, elf::PT_GNU_PROPERTY, elf::PT_NULL] {
        assert_eq!(request(kind, R, 8, 8), Ok(()), "informative");
    }
}

#[test]
fn segments_without_rights_are_rejected() {
    let place = Place { header: 2, vaddr: BASE + 0x2000, mem_size: 0x10 };
    // The upper bits are reserved for the OS and the processor; they grant no access rights.
    for flags in [0, 8, 0xfff0_0000] {
        let result = with_segment(2, load(flags, 0x1000, BASE + 0x2000, 0x10, 0x10));
        assert_eq!(result, Err(LoadError::NoRights(place)), "{flags:#x}");
    }
    // With x86 page tables, ring 3 can read every page that it may write or execute.
    for flags in [2, 1] {
        assert_eq!(with_segment(2, load(flags, 0x1000, BASE + 0x2000, 0x10, 0x10)), Ok(()), "{flags:#x}");
    }
}

/// The kernel copies segment contents to their addresses, so neither file offset nor alignment matters.
#[test]
fn any_offset_and_alignment_of_a_segment_are_accepted() {
    for (offset, align) in [(0x1101, 4096), (0x1100, 0), (0x1100, 3), (0x1101, 1 << 21), (0, u64::MAX)] {
        let file = elf_with(|_, segments| {
            segments[2] = load(RW, offset, BASE + 0x2100, 0x80, 0x80);
            segments[2].p_align.set(LE, align);
        });
        let image = Image::parse(&file).unwrap();
        let data = image.segments().nth(2).unwrap();
        assert_eq!((data.vaddr, data.data), (BASE + 0x2100, &file[offset as usize..][..0x80]));
    }
}

#[test]
fn overlapping_segments_are_rejected() {
    let code = Place { header: 1, vaddr: BASE + 0x1000, mem_size: 0x100 };
    let bad = [
        load(RW, 0, BASE + 0x1100, 0, 0x10),
        load(RW, 0, BASE + 0x1000, 0, 0x1000),
        load(RX, 0, BASE + 0x10ff, 0, 0x10),
        load(R, 0, BASE + 0x1fff, 0, 1),
    ];
    for changed in bad {
        let other = Place { header: 2, vaddr: changed.p_vaddr.get(LE), mem_size: changed.p_memsz.get(LE) };
        assert_eq!(with_segment(2, changed), Err(LoadError::Overlap(code, other)));
    }
    assert_eq!(with_segment(2, load(RX, 0, BASE + 0x1100, 0, 0x10)), Ok(()), "same page, same rights");
}

#[test]
fn entry_point_must_be_in_code() {
    for entry in [0, BASE, BASE + 0xfff, BASE + 0x1100, BASE + 0x2100, u64::MAX] {
        assert_eq!(with_header(|h| h.e_entry.set(LE, entry)), Err(LoadError::EntryOutside(entry)));
    }
    for entry in [BASE + 0x1000, BASE + 0x10ff] {
        assert_eq!(with_header(|h| h.e_entry.set(LE, entry)), Ok(()));
    }
}

#[test]
fn messages_say_what_to_do() {
    let message = LoadError::ExecutableStack { header: 4 }.to_string();
    assert!(message.starts_with("segment 4 needs an executable stack (PT_GNU_STACK)"), "{message}");
    assert!(message.ends_with("link with -z noexecstack"), "{message}");
    assert_eq!(
        LoadError::Dynamic.to_string(),
        "dynamically linked or position independent: link with -static -no-pie"
    );
    let place = Place { header: 2, vaddr: 0x1000, mem_size: 16 };
    assert_eq!(
        LoadError::OutsideUserSpace(place).to_string(),
        "segment 2 (0x1000, 0x10 bytes) does not lie completely in user space, 0x10000 to 0x7ffffffff000"
    );
}

proptest! {
    #[test]
    fn changed_bytes_never_panic_and_satisfy_the_properties(
        changes in prop::collection::vec((0..240_usize, any::<u8>()), 0..12),
    ) {
        let mut file = elf_with(|_, _| {});
        for (at, byte) in changes {
            file[at] = byte;
        }
        properties::program(&file);
    }

    #[test]
    fn any_headers_never_panic(
        given in prop::collection::vec((any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..5),
    ) {
        let file = elf_with(|header, segments| {
            header.e_phnum.set(LE, given.len() as u16);
            *segments = given.into_iter().map(|(f, o, v, s, m)| load(f, o, v, s, m)).collect();
        });
        properties::program(&file);
    }
}
