//! ELF files that the kernel must reject. Each differs from a valid file by one defect.

use kernel_abi::layout::{SHARED_PAGE, STACK_TOP};
use object::elf::{
    ELFCLASS32, ELFDATA2MSB, EM_AARCH64, ET_DYN, FileHeader64, PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP,
    PT_LOAD, PT_TLS, ProgramFlags, ProgramHeader64, SymbolSection,
};
use object::read::elf::FileHeader;
use object::{LittleEndian as LE, pod};

type Header = FileHeader64<LE>;
type Segment = ProgramHeader64<LE>;

/// A defect in a program's ELF file.
pub struct Defect {
    /// The defect's name.
    pub name: &'static str,
    change: Change,
}

enum Change {
    Header(fn(&mut Header)),
    Segments(fn(&mut [Segment])),
    Loads(fn(&mut [&mut Segment])),
    Bytes(fn(Vec<u8>) -> Vec<u8>),
}

/// All defects.
pub const DEFECTS: [Defect; 21] = [
    bytes("not-elf", |_| b"#!/bin/sh\nexit 0\n".to_vec()),
    bytes("truncated-in-header", |mut elf| {
        elf.truncate(40);
        elf
    }),
    bytes("truncated-in-segment", |mut elf| {
        elf.truncate(elf.len() / 2);
        elf
    }),
    header("32-bit", |header| header.e_ident.class = ELFCLASS32),
    header("big-endian", |header| header.e_ident.data = ELFDATA2MSB),
    header("wrong-machine", |header| header.e_machine.set(LE, EM_AARCH64)),
    header("dynamic", |header| header.e_type.set(LE, ET_DYN)),
    segments("interpreter", |segments| {
        stack_header(segments).p_type.set(LE, PT_INTERP);
    }),
    segments("thread-local-storage", |segments| {
        let storage = stack_header(segments);
        storage.p_type.set(LE, PT_TLS);
        storage.p_memsz.set(LE, 8);
    }),
    segments("executable-stack", |segments| {
        stack_header(segments).p_flags.set(LE, PF_R | PF_W | PF_X);
    }),
    loads("no-permissions", |loads| loads[1].p_flags.set(LE, ProgramFlags(0))),
    header("entry-outside", |header| header.e_entry.set(LE, 0x3_0000_0000)),
    header("headers-outside", |header| header.e_phoff.set(LE, u64::MAX - 8)),
    loads("overlapping", |loads| {
        let first = loads[0].p_vaddr.get(LE);
        place(loads[1], first & !0xfff);
    }),
    loads("in-kernel-half", |loads| place(loads[1], 0xffff_8000_0000_0000)),
    loads("wrapping", |loads| {
        place(loads[1], !0xfff);
        loads[1].p_memsz.set(LE, 0x2000);
    }),
    loads("null-page", |loads| place(loads[1], 0)),
    loads("on-the-shared-page", |loads| place(loads[1], SHARED_PAGE)),
    loads("on-the-stack", |loads| place(loads[1], STACK_TOP - 0x1000)),
    loads("larger-than-memory", |loads| {
        let last = loads.len() - 1;
        loads[last].p_memsz.set(LE, 1 << 40);
    }),
    LAST_PAGE,
];

/// A program in the last page below the non-canonical range. Its last instruction is `syscall`, which would return to a
/// non-canonical address.
pub const LAST_PAGE: Defect = bytes("in-the-last-page", in_the_last_page);

/// Returns such a program, made from the headers of a valid file.
fn in_the_last_page(valid: Vec<u8>) -> Vec<u8> {
    const PAGE: u64 = 0x7fff_ffff_f000;
    const SIZE: usize = 0x1000;
    /// `xor eax, eax`, the number of `SYS_NULL`; `syscall`.
    const CODE: [u8; 4] = [0x31, 0xc0, 0x0f, 0x05];
    let Ok(header) = Header::parse(&*valid) else { return valid };
    let segments = header.program_headers(LE, &*valid).unwrap_or_default();
    let Some(load) = segments.iter().find(|segment| segment.p_type.get(LE) == PT_LOAD) else { return valid };
    let (mut header, mut load) = (*header, *load);
    header.e_entry.set(LE, PAGE + (SIZE - CODE.len()) as u64);
    header.e_phoff.set(LE, size_of::<Header>() as u64);
    header.e_phnum.set(LE, 1);
    header.e_shoff.set(LE, 0);
    header.e_shnum.set(LE, 0);
    header.e_shstrndx.set(LE, SymbolSection(0));
    load.p_flags.set(LE, PF_R | PF_X);
    load.p_vaddr.set(LE, PAGE);
    load.p_offset.set(LE, SIZE as u64);
    load.p_filesz.set(LE, SIZE as u64);
    load.p_memsz.set(LE, SIZE as u64);
    load.p_align.set(LE, SIZE as u64);
    let mut file = [pod::bytes_of(&header), pod::bytes_of(&load)].concat();
    file.resize(2 * SIZE - CODE.len(), 0);
    file.extend(CODE);
    file
}

const fn header(name: &'static str, change: fn(&mut Header)) -> Defect {
    Defect { name, change: Change::Header(change) }
}

const fn segments(name: &'static str, change: fn(&mut [Segment])) -> Defect {
    Defect { name, change: Change::Segments(change) }
}

const fn bytes(name: &'static str, change: fn(Vec<u8>) -> Vec<u8>) -> Defect {
    Defect { name, change: Change::Bytes(change) }
}

const fn loads(name: &'static str, change: fn(&mut [&mut Segment])) -> Defect {
    Defect { name, change: Change::Loads(change) }
}

/// Returns the program header of the stack, which loads nothing. Linkers add one to every program.
fn stack_header(segments: &mut [Segment]) -> &mut Segment {
    let place = segments.iter().position(|segment| segment.p_type.get(LE) == PT_GNU_STACK);
    let last = segments.len() - 1;
    &mut segments[place.unwrap_or(last)]
}

/// Moves a segment to another page. Keeps the address and the file offset congruent modulo the page size, as linkers
/// do.
fn place(segment: &mut Segment, page: u64) {
    let within = segment.p_vaddr.get(LE) & 0xfff;
    segment.p_vaddr.set(LE, page + within);
}

impl Defect {
    /// Adds this defect to a valid file.
    pub fn apply(&self, valid: Vec<u8>) -> Result<Vec<u8>, &'static str> {
        const NOT_VALID: &str = "the file to change is not a valid ELF file";
        let mut header = *Header::parse(&*valid).map_err(|_| NOT_VALID)?;
        let mut segments = header.program_headers(LE, &*valid).map_err(|_| NOT_VALID)?.to_vec();
        let table = usize::try_from(header.e_phoff.get(LE)).map_err(|_| NOT_VALID)?;
        match self.change {
            Change::Bytes(change) => return Ok(change(valid)),
            Change::Header(change) => change(&mut header),
            Change::Segments(change) => change(&mut segments),
            Change::Loads(change) => {
                let is_load = |segment: &&mut Segment| segment.p_type.get(LE) == PT_LOAD;
                let mut loads: Vec<_> = segments.iter_mut().filter(is_load).collect();
                if loads.len() < 2 {
                    return Err("the program has fewer than two PT_LOAD segments");
                }
                change(&mut loads);
            }
        }
        let mut broken = valid;
        broken[..size_of::<Header>()].copy_from_slice(pod::bytes_of(&header));
        let rows = pod::bytes_of_slice(&segments);
        broken[table..table + rows.len()].copy_from_slice(rows);
        Ok(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_changes_the_file_and_has_a_unique_name() {
        let mut valid = std::fs::read("/proc/self/exe").expect("cannot read the test executable");
        // The low byte of e_type, ET_EXEC: programs for the host are position-independent.
        valid[16] = 2;
        for (index, defect) in DEFECTS.iter().enumerate() {
            let broken = defect.apply(valid.clone());
            assert!(broken.is_ok_and(|broken| broken != valid), "{}", defect.name);
            assert!(DEFECTS[..index].iter().all(|other| other.name != defect.name));
        }
    }
}
