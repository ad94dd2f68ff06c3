//! Properties that must hold for every input to the modules that parse untrusted data: firmware tables, program files,
//! the command line and pointers from ring 3. Each property is implemented independently of the code that it checks.
//! The property tests and the fuzz targets in `kernel/fuzz` share these functions.
//!
//! A violated property causes a panic.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use kernel_abi::layout::{PAGE_SIZE, STACK_TOP, USER_END, USER_START};

use crate::acpi_tables::{self, HEADER_LEN, Hpet, Name, PhysicalMemory, TABLE_MAX, Tables};
use crate::cmdline::{Options, Token};
use crate::cpu::ApicId;
use crate::initial_stack;
use crate::program::{Image, MEMORY_MAX};
use crate::topology::{self, ApicMode, MADT_HEADER_LEN, Madt};
use crate::user_slice::UserSlice;

/// Physical memory that holds firmware tables. It begins at [`FIRMWARE_BASE`], where the RSDP is.
pub struct FirmwareMemory<'a>(pub &'a [u8]);

/// The physical address of the memory in [`FirmwareMemory`].
pub const FIRMWARE_BASE: u64 = 0x1000;

impl<'a> PhysicalMemory<'a> for FirmwareMemory<'a> {
    fn bytes(&self, address: u64, len: usize) -> Option<&'a [u8]> {
        self.0.get(usize::try_from(address.checked_sub(FIRMWARE_BASE)?).ok()?..)?.get(..len)
    }
}

/// Checks the search for firmware tables. A table that is found lies in the memory, has the name and the length that its
/// header says, and its bytes add up to 0.
///
/// # Panics
/// If the property is violated.
pub fn firmware(memory: &[u8]) {
    let tables = match Tables::find(FirmwareMemory(memory), FIRMWARE_BASE) {
        Ok(tables) => tables,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(memory.starts_with(b"RSD PTR ") && acpi_tables::sum(&memory[..20]) == 0);
    for name in [Name::MADT, Name::FADT, Name::HPET] {
        let table = match tables.table(name) {
            Ok(table) => table,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let start = (table.address - FIRMWARE_BASE) as usize;
        assert_eq!(table.bytes, &memory[start..start + table.bytes.len()]);
        let len = u32::from_le_bytes([4, 5, 6, 7].map(|at| table.bytes[at])) as usize;
        assert!(len == table.bytes.len() && (HEADER_LEN..=TABLE_MAX).contains(&len));
        assert!(table.bytes.starts_with(&name.0) && acpi_tables::sum(table.bytes) == 0);
        let listed = tables.root.bytes[HEADER_LEN..].windows(4);
        assert!(listed.map(|at| acpi_tables::number(at, 4)).any(|address| address == table.address));
        let _ = Hpet::parse(table.bytes);
    }
}

/// Sets the checksums of the RSDP at the start of the memory, of the root table to which it points, and of the tables
/// that the root table lists, if they lie in the memory.
pub fn repair_checksums(memory: &mut [u8]) {
    let offset = |address: u64| address.checked_sub(FIRMWARE_BASE).map_or(usize::MAX, |at| at as usize);
    if memory.len() < 36 {
        return;
    }
    repair(memory, 0, 20, 8);
    repair(memory, 0, 36, 32);
    let (root, len) = if memory[15] < 2 {
        (offset(acpi_tables::number(&memory[16..], 4)), 4)
    } else {
        (offset(acpi_tables::number(&memory[24..], 8)), 8)
    };
    let Some(root_len) = table_len(memory, root) else { return };
    let tables: Vec<usize> = memory[root..root + root_len][HEADER_LEN..]
        .chunks_exact(len)
        .map(|address| offset(acpi_tables::number(address, len)))
        .collect();
    for start in tables.into_iter().chain([root]) {
        if let Some(len) = table_len(memory, start) {
            repair(memory, start, len, 9);
        }
    }
}

/// Returns the length of the table at `start`, if it lies in the memory.
fn table_len(memory: &[u8], start: usize) -> Option<usize> {
    let len = acpi_tables::number(memory.get(start..)?.get(4..8)?, 4) as usize;
    (len >= HEADER_LEN && memory.len() - start >= len).then_some(len)
}

/// Sets the byte at `place` of a range so that all bytes of the range add up to 0.
fn repair(memory: &mut [u8], start: usize, len: usize, place: usize) {
    memory[start + place] = 0;
    memory[start + place] = acpi_tables::sum(&memory[start..start + len]).wrapping_neg();
}

/// Checks the parser of the MADT. An accepted table yields each CPU that may be started exactly once, in the order of
/// the table, after the BSP. A table with an entry that is not completely inside it is rejected.
///
/// # Panics
/// If the property is violated.
pub fn topology(table: &[u8], bsp: u32, mode: ApicMode) {
    let by_hand = table.get(MADT_HEADER_LEN..).and_then(naive_walk);
    let madt = match Madt::parse(table) {
        Ok(madt) => madt,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return assert_eq!(by_hand, None, "a valid table was rejected: {error}");
        }
    };
    let listed = by_hand.expect("an invalid table was accepted");

    let mut list = std::vec![ApicId(u32::MAX); madt.upper_bound()];
    let found = topology::enumerate(&madt, ApicId(bsp), mode, &mut list)
        .expect("a list of upper_bound() elements must be long enough");
    let mut seen = BTreeSet::from([bsp]);
    let reachable = |id: &u32| mode == ApicMode::X2Apic || *id < 0xff;
    let expected: Vec<_> = [bsp]
        .into_iter()
        .chain(listed.iter().copied().filter(|id| reachable(id) && seen.insert(*id)))
        .collect();
    assert_eq!(list[..found.count].iter().map(|id| id.0).collect::<Vec<_>>(), expected);
    let unreachable: BTreeSet<_> = listed.iter().filter(|id| !reachable(id) && **id != bsp).collect();
    assert_eq!(found.unreachable, unreachable.len());
    assert_eq!(found.bsp_listed, listed.contains(&bsp));
}

/// Returns the ids of all enabled entries of types 0 and 9; `None` for an invalid entry (ACPI 6.5, tables 5.21, 5.34).
fn naive_walk(mut bytes: &[u8]) -> Option<Vec<u32>> {
    let word = |entry: &[u8], at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| entry[at + n]));
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let len = usize::from(*bytes.get(1)?);
        let (entry, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        let (none, id, flags) = match (entry.first()?, len) {
            (0, 8..) => (0xff, entry[3].into(), word(entry, 4)),
            (9, 16..) => (u32::MAX, word(entry, 4), word(entry, 8)),
            (1, 12..) => continue,
            (0 | 1 | 9, _) | (_, ..2) => return None,
            _ => continue,
        };
        if id != none && flags & 1 == 1 {
            found.push(id);
        }
    }
    Some(found)
}

/// Checks the parser of program files. An accepted program lies in the user half and within the limits, has no page
/// that is both writable and executable, and has its entry point in an executable segment.
///
/// # Panics
/// If the property is violated.
pub fn program(file: &[u8]) {
    let image = match Image::parse(file) {
        Ok(image) => image,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut pages = BTreeMap::new();
    let mut bytes = Vec::new();
    for segment in image.segments() {
        assert!(segment.data.len() as u64 <= segment.mem_size && segment.mem_size <= MEMORY_MAX);
        assert!(!(segment.writable && segment.executable));
        for page in (segment.first_page()..segment.end_page()).step_by(PAGE_SIZE as usize) {
            assert!((USER_START..USER_END).contains(&page));
            let rights = (segment.writable, segment.executable);
            assert_eq!(
                *pages.entry(page).or_insert(rights),
                rights,
                "all segments of a page must have the same rights"
            );
        }
        bytes.push((segment.vaddr, segment.end()));
    }
    bytes.sort_unstable();
    assert!(bytes.windows(2).all(|pair| pair[0].1 <= pair[1].0), "segments must not overlap");
    assert!(pages[&(image.entry() / PAGE_SIZE * PAGE_SIZE)].1, "the entry point must be executable");
    assert!(pages.len() as u64 <= image.pages() && image.pages() <= MEMORY_MAX / PAGE_SIZE);
    let (count, headers) = image.program_headers();
    assert!(count <= crate::program::HEADERS_MAX.into());
    assert!(headers.is_none_or(|at| pages.contains_key(&(at / PAGE_SIZE * PAGE_SIZE))));
    let mut stack = [0; 512];
    let arguments = ["program", "argument"].map(str::bytes).into_iter();
    let rsp = initial_stack::write(&mut stack, STACK_TOP, arguments, &["KEY=value"], &image)
        .expect("the buffer must be large enough");
    assert!(rsp.is_multiple_of(16) && (STACK_TOP - 512..STACK_TOP).contains(&rsp));
}

/// Checks the command-line parser. If a line is accepted, quoting its values and parsing them again yields the same
/// values.
///
/// # Panics
/// If the property is violated.
pub fn command_line(line: &[u8]) {
    let options = match Options::parse(line) {
        Ok(options) => options,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let arguments: Vec<String> = options.program_args().map(|token| token.to_string()).collect();
    for token in options.program_args() {
        assert_eq!(token.bytes().count(), token.len());
        assert_eq!(token.is_empty(), token.to_string().is_empty());
        let mut buffer = std::vec![0; token.len()];
        assert!(token.copy_to(&mut buffer).is_some_and(|copy| token == *copy));
    }
    assert!((1..=10_000).contains(&options.tick_hz) && !options.program.is_empty());
    assert!(options.trace.records.is_power_of_two());
    assert_eq!(Options::requested_without(line), options.without);

    let mut again = quoted_pair("program", &options.program);
    again += &format!(" tick_hz={} --", options.tick_hz);
    for argument in &arguments {
        again += &format!(" \"{}\"", escaped(argument));
    }
    let reread = Options::parse(again.as_bytes()).expect("cannot parse quoted values");
    assert!(reread.program == options.program && reread.tick_hz == options.tick_hz);
    assert!(reread.program_args().map(|token| token.to_string()).eq(arguments));
}

fn quoted_pair(key: &str, value: &Token<'_>) -> String {
    format!("\"{key}={}\"", escaped(&value.to_string()))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Checks the validation of a range from ring 3. A range is accepted if and only if its start and all of its bytes lie
/// in the user half.
///
/// # Panics
/// If the property is violated.
pub fn user_slice(pointer: u64, length: u64, first: u64) {
    let end = u128::from(pointer) + u128::from(length);
    let good = pointer < USER_END && end <= u128::from(USER_END);
    let slice = UserSlice::new(pointer, length);
    assert_eq!(slice.is_ok(), good, "{pointer:#x}, {length:#x}");
    let Ok(slice) = slice else { return };
    assert_eq!((slice.start(), slice.len(), slice.is_empty()), (pointer, length, length == 0));
    let head = slice.first(first);
    assert_eq!((head.start(), head.len()), (pointer, length.min(first)));
}
