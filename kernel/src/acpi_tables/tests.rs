use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::properties::{self, FIRMWARE_BASE as BASE, FirmwareMemory as Ram};

/// The offsets of the RSDP, the root table and the two tables in [`firmware`]'s memory.
const RSDP: usize = 0;
const ROOT: usize = 0x100;
const MADT: usize = 0x200;
const FADT: usize = 0x300;

fn at(offset: usize) -> u64 {
    BASE + offset as u64
}

fn write_table(memory: &mut [u8], start: usize, name: Name, content: &[u8]) {
    let len = HEADER_LEN + content.len();
    memory[start..start + 4].copy_from_slice(&name.0);
    memory[start + 4..start + 8].copy_from_slice(&(len as u32).to_le_bytes());
    memory[start + HEADER_LEN..start + len].copy_from_slice(content);
}

/// Firmware with an RSDP of this revision, a root table, a MADT and a FADT.
fn firmware(revision: u8) -> Vec<u8> {
    let mut memory = std::vec![0; 0x400];
    write_table(&mut memory, MADT, Name::MADT, &[1; 20]);
    write_table(&mut memory, FADT, Name::FADT, &[2; 80]);
    let (name, len) = if revision < 2 { (Name::RSDT, 4) } else { (Name::XSDT, 8) };
    let list: Vec<u8> =
        [0, at(MADT), at(FADT)].iter().flat_map(|at| at.to_le_bytes()[..len].to_vec()).collect();
    write_table(&mut memory, ROOT, name, &list);
    memory[..8].copy_from_slice(b"RSD PTR ");
    memory[RSDP_REVISION] = revision;
    if revision < 2 {
        memory[RSDP_RSDT..][..4].copy_from_slice(&at(ROOT).to_le_bytes()[..4]);
    } else {
        memory[RSDP_LENGTH] = RSDP_V2_LEN as u8;
        memory[RSDP_XSDT..][..8].copy_from_slice(&at(ROOT).to_le_bytes());
    }
    properties::repair_checksums(&mut memory);
    memory
}

fn find(memory: &[u8], name: Name) -> Result<Table<'_>, TableError> {
    Tables::find(Ram(memory), at(RSDP))?.table(name)
}

#[test]
fn tables_of_both_revisions_are_found() {
    for revision in [0, 1, 2, 3] {
        let memory = firmware(revision);
        for (name, start, len) in [(Name::MADT, MADT, 56), (Name::FADT, FADT, 116)] {
            let table = Table { address: at(start), bytes: &memory[start..start + len] };
            assert_eq!(find(&memory, name), Ok(table), "revision {revision}");
        }
        assert_eq!(find(&memory, Name::HPET), Err(TableError::Missing(Name::HPET)));
    }
}

#[test]
fn rsdp_of_revision_2_without_an_xsdt_leads_to_the_rsdt() {
    let mut memory = firmware(0);
    memory[RSDP_REVISION] = 2;
    memory[RSDP_LENGTH] = RSDP_V2_LEN as u8;
    properties::repair_checksums(&mut memory);
    assert_eq!(find(&memory, Name::MADT).map(|table| table.address), Ok(at(MADT)));
}

#[test]
fn each_broken_table_has_its_message() {
    let broken = |revision, change: &dyn Fn(&mut Vec<u8>)| {
        let mut memory = firmware(revision);
        change(&mut memory);
        find(&memory, Name::MADT).expect_err("the table must be rejected").to_string()
    };
    let none = Tables::find(Ram(&[]), 0).map(drop).unwrap_err();
    assert_eq!(none.to_string(), "the loader gave no ACPI root pointer (RSDP)");
    for (expected, change) in [
        (
            "RSDP at 0x1000 has the wrong signature",
            &(|m: &mut Vec<u8>| m[RSDP + 7] = b'x') as &dyn Fn(&mut Vec<u8>),
        ),
        ("RSDP at 0x1000 has a wrong checksum", &|m| m[RSDP + 8] ^= 1),
        ("RSDP at 0x1000 has a wrong checksum", &|m| m[RSDP + 33] ^= 1),
        ("RSDP at 0x1000 has an invalid length of 35 bytes", &|m| m[RSDP_LENGTH] = 35),
        ("RSDP at 0x1000 has an invalid length of 4278190116 bytes", &|m| m[RSDP_LENGTH + 3] = 0xff),
        ("RSDP at 0x1000, 36 bytes long, does not lie in physical memory", &|m| m.truncate(30)),
        ("XSDT at 0x1100 has the wrong signature", &|m| m[ROOT] = b'R'),
        ("XSDT at 0x1100 has a wrong checksum", &|m| m[ROOT + 9] ^= 1),
        ("XSDT at 0x1100 has an invalid length of 16 bytes", &|m| m[ROOT + 4] = 16),
        ("MADT at 0x1200 has a wrong checksum", &|m| m[MADT + HEADER_LEN] ^= 1),
        ("MADT at 0x1200 has an invalid length of 0 bytes", &|m| m[MADT + 4] = 0),
        ("MADT at 0x1200 has an invalid length of 1073741880 bytes", &|m| m[MADT + 7] = 0x40),
        ("MADT at 0x1200, 65592 bytes long, does not lie in physical memory", &|m| m[MADT + 6] = 1),
        ("the firmware has no ACPI MADT", &|m| m[MADT] = b'B'),
    ] {
        let error = broken(2, change);
        assert!(error.ends_with(expected), "{error:?} instead of {expected:?}");
    }
    let error = broken(0, &|m| m[RSDP_RSDT + 3] = 0xff);
    assert!(error.ends_with("RSDP at 0x1000 has a wrong checksum"), "{error}");
}

#[test]
fn second_table_of_a_name_replaces_a_broken_one() {
    let mut memory = firmware(2);
    write_table(&mut memory, FADT, Name::MADT, &[2; 80]);
    properties::repair_checksums(&mut memory);
    memory[MADT + HEADER_LEN] ^= 1;
    assert_eq!(find(&memory, Name::MADT).map(|table| table.address), Ok(at(FADT)));
}

#[test]
fn root_table_with_an_incomplete_address_is_read_up_to_it() {
    let mut memory = firmware(2);
    let list: Vec<u8> = at(MADT).to_le_bytes().into_iter().chain([0x12, 0x34]).collect();
    write_table(&mut memory, ROOT, Name::XSDT, &list);
    properties::repair_checksums(&mut memory);
    assert!(find(&memory, Name::MADT).is_ok());
    assert_eq!(find(&memory, Name::FADT), Err(TableError::Missing(Name::FADT)));
}

#[test]
fn hpet_is_accepted_only_in_memory() {
    let mut table = [0; 56];
    table[44..52].copy_from_slice(&0xfed0_0000_u64.to_le_bytes());
    assert_eq!(Hpet::parse(&table), Some(Hpet { address: 0xfed0_0000 }));
    assert_eq!(Hpet::parse(&table[..55]), None);
    for (place, value) in [(40, 1), (44, 8)] {
        let mut wrong = table;
        wrong[place] = value;
        assert_eq!(Hpet::parse(&wrong), None);
    }
    assert_eq!(Hpet::parse(&[0; 56]), None);
}

proptest! {
    #[test]
    fn changed_firmware_satisfies_the_properties(
        revision in 0..3_u8,
        changes in prop::collection::vec((0..0x400_usize, any::<u8>()), 0..6),
        repair: bool,
    ) {
        let mut memory = firmware(revision);
        for (place, value) in changes {
            memory[place] = value;
        }
        if repair {
            properties::repair_checksums(&mut memory);
        }
        properties::firmware(&memory);
    }

    #[test]
    fn any_bytes_satisfy_the_properties(memory: Vec<u8>) {
        properties::firmware(&memory);
    }
}

/// Checks that the fuzz target's seeds contain the tables of [`firmware`]. A seed's first byte is `repair`, and the
/// memory follows.
#[test]
fn seeds_of_the_fuzz_target_are_firmware() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/acpi_tables");
    let mut long = firmware(2);
    long[MADT + 7] = 0x40;
    let seeds = [
        ("revision-0", 0, firmware(0)),
        ("revision-2", 0, firmware(2)),
        ("repaired-1", 1, firmware(1)),
        ("repaired-3", 1, firmware(3)),
        ("longer-than-memory", 0, long),
    ];
    for (name, repair, memory) in seeds {
        let path = std::format!("{folder}/{name}");
        let expected: Vec<u8> = [repair].into_iter().chain(memory).collect();
        if std::env::var_os("RINGSIDE_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(folder).expect("cannot create the folder");
            std::fs::write(&path, &expected).expect("cannot write the seed");
        }
        assert_eq!(
            std::fs::read(&path).ok(),
            Some(expected),
            "{path}: set RINGSIDE_WRITE_SEEDS=1 to write it"
        );
    }
}
