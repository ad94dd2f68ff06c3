use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::properties;

const BSP: ApicId = ApicId(0);

const TYPE_0: [u8; 8] = [0, 8, 7, 3, 1, 0, 0, 0];
const TYPE_9: [u8; 16] = [9, 16, 0, 0, 4, 1, 0, 0, 1, 0, 0, 0, 9, 9, 9, 9];
const IO_APIC: [u8; 12] = [1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn apic(apic_id: u8) -> MadtEntry {
    MadtEntry::XApicCpu { apic_id, flags: 1 }
}

fn x2apic(apic_id: u32) -> MadtEntry {
    MadtEntry::X2ApicCpu { apic_id, flags: 1 }
}

/// Returns a table with these bytes as its entries.
fn table_of(entries: &[u8]) -> Vec<u8> {
    [&[0; MADT_HEADER_LEN], entries].concat()
}

/// Returns a table with these entries (ACPI 6.5, tables 5.21 and 5.34).
fn table(cpus: &[MadtEntry]) -> Vec<u8> {
    let bytes = |cpu: &MadtEntry| match *cpu {
        MadtEntry::IoApic { address } => [&[1, 12, 0, 0][..], &address.to_le_bytes(), &[0; 4]].concat(),
        MadtEntry::XApicCpu { apic_id, flags } => [&[0, 8, 0, apic_id][..], &flags.to_le_bytes()].concat(),
        MadtEntry::X2ApicCpu { apic_id, flags } => {
            [&[9, 16, 0, 0][..], &apic_id.to_le_bytes(), &flags.to_le_bytes(), &[0; 4]].concat()
        }
    };
    table_of(&cpus.iter().flat_map(bytes).collect::<Vec<_>>())
}

fn cpus(table: &[u8], bsp: u32, mode: ApicMode) -> (Vec<u32>, Topology) {
    let madt = Madt::parse(table).unwrap();
    let mut list = std::vec![ApicId(u32::MAX); madt.upper_bound()];
    let found = enumerate(&madt, ApicId(bsp), mode, &mut list).unwrap();
    (list[..found.count].iter().map(|id| id.0).collect(), found)
}

#[test]
fn enabled_entries_are_listed_as_cpus() {
    use ApicMode::{X2Apic, XApic};
    let disabled = MadtEntry::XApicCpu { apic_id: 1, flags: 0 };
    let online_capable = MadtEntry::XApicCpu { apic_id: 1, flags: 2 };
    let both_flags = MadtEntry::X2ApicCpu { apic_id: 1, flags: 3 };
    type Case<'a> = (&'a str, &'a [MadtEntry], u32, ApicMode, &'a [u32]);
    let cases: &[Case<'_>] = &[
        ("plain", &[apic(0), apic(1), apic(2)], 0, XApic, &[0, 1, 2]),
        ("disabled", &[apic(0), disabled, apic(2)], 0, XApic, &[0, 2]),
        ("online capable only", &[apic(0), online_capable], 0, X2Apic, &[0]),
        ("enabled and online capable", &[apic(0), both_flags], 0, X2Apic, &[0, 1]),
        ("disabled first, enabled later", &[apic(0), disabled, apic(1)], 0, XApic, &[0, 1]),
        ("0xff is none", &[apic(0), apic(0xff)], 0, X2Apic, &[0]),
        ("0xffff_ffff is none", &[apic(0), x2apic(u32::MAX)], 0, X2Apic, &[0]),
        ("type 9 may be 255", &[apic(0), x2apic(255)], 0, X2Apic, &[0, 255]),
        ("BSP not first", &[apic(4), apic(2), apic(0)], 2, XApic, &[2, 4, 0]),
        ("sparse", &[apic(0), apic(8), apic(2), apic(10)], 0, XApic, &[0, 8, 2, 10]),
        ("duplicates", &[apic(0), apic(1), apic(1), apic(0), apic(2)], 0, XApic, &[0, 1, 2]),
        ("both types", &[apic(0), apic(1), x2apic(0), x2apic(1), x2apic(2)], 0, X2Apic, &[0, 1, 2]),
        ("wide ids", &[apic(0), x2apic(256), x2apic(0x1_0000)], 0, X2Apic, &[0, 256, 0x1_0000]),
        ("wide BSP", &[apic(0), x2apic(300)], 300, X2Apic, &[300, 0]),
        ("nothing", &[], 7, XApic, &[7]),
    ];
    for (name, entries, bsp, mode, expected) in cases {
        let (list, found) = cpus(&table(entries), *bsp, *mode);
        assert_eq!(list, *expected, "{name}");
        assert_eq!(found.unreachable, 0, "{name}");
        assert_eq!(found.bsp_listed, !entries.is_empty(), "{name}");
    }
}

#[test]
fn xapic_mode_leaves_out_large_ids() {
    let entries = [apic(0), apic(254), x2apic(255), x2apic(256), x2apic(256), x2apic(1)];
    let (list, found) = cpus(&table(&entries), 0, ApicMode::XApic);
    assert_eq!(list, [0, 254, 1]);
    assert_eq!(found.unreachable, 2);
}

#[test]
fn unlisted_bsp_is_cpu_0_and_reported() {
    for bsp_entry in [apic(3), MadtEntry::XApicCpu { apic_id: 9, flags: 0 }] {
        let (list, found) = cpus(&table(&[apic(1), bsp_entry]), 9, ApicMode::XApic);
        assert_eq!(list[..2], [9, 1]);
        assert!(!found.bsp_listed);
    }
}

#[test]
fn too_short_list_is_an_error() {
    let table = table(&[apic(0), apic(1)]);
    let madt = Madt::parse(&table).unwrap();
    for len in 0..2 {
        let mut list = [BSP; 2];
        let result = enumerate(&madt, BSP, ApicMode::XApic, &mut list[..len]);
        assert_eq!(result, Err(ListTooShort { len }));
    }
}

#[test]
fn entries_are_parsed_from_bytes() {
    let table = table_of(&[&IO_APIC[..], &TYPE_0, &[0x80, 2], &TYPE_9].concat());
    assert_eq!(cpus(&table, 3, ApicMode::X2Apic).0, [3, 0x104]);
    assert_eq!(cpus(&table_of(&[]), 3, ApicMode::X2Apic).0, [3]);
}

/// The `acpi` crate creates a reference to the complete structure of a type regardless of the entry's length. This
/// module does not read entries of other types, so only their length matters.
#[test]
fn entries_of_other_types_are_skipped_by_their_length() {
    for kind in (2..=u8::MAX).filter(|&kind| kind != 9) {
        for len in [2, 4, 255] {
            let mut entry = std::vec![0; len];
            entry[..2].copy_from_slice(&[kind, len as u8]);
            let table = table_of(&[&TYPE_0[..], &entry, &TYPE_9].concat());
            assert_eq!(cpus(&table, 3, ApicMode::X2Apic).0, [3, 0x104], "type {kind}, {len} bytes");
        }
    }
}

#[test]
fn io_apics_are_listed_by_their_addresses() {
    let [first, second] = [0xfec0_0000, 0xffff_f000].map(|address| MadtEntry::IoApic { address });
    let table = table(&[first, apic(0), second, x2apic(1)]);
    assert!(Madt::parse(&table).unwrap().io_apics().eq([0xfec0_0000, 0xffff_f000]));
    assert_eq!(cpus(&table, 0, ApicMode::X2Apic).0, [0, 1]);
}

#[test]
fn entry_may_be_longer_than_its_type_requires() {
    let longer = [0, 10, 7, 5, 1, 0, 0, 0, 0xee, 0xee];
    let table = table_of(&[&TYPE_0[..], &longer, &TYPE_9].concat());
    assert_eq!(cpus(&table, 3, ApicMode::X2Apic).0, [3, 5, 0x104]);
}

#[test]
fn invalid_tables_are_rejected() {
    let cases: &[(&[u8], MadtError)] = &[
        (&[0, 0], MadtError::EntryTooShort { offset: 12, kind: 0, len: 0 }),
        (&[9, 0], MadtError::EntryTooShort { offset: 12, kind: 9, len: 0 }),
        (&[0x11, 0], MadtError::EntryTooShort { offset: 12, kind: 0x11, len: 0 }),
        (&[0x90, 1], MadtError::EntryTooShort { offset: 12, kind: 0x90, len: 1 }),
        (&[0, 7, 0, 0, 1, 0, 0, 0], MadtError::EntryTooShort { offset: 12, kind: 0, len: 7 }),
        (&[1, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0], MadtError::EntryTooShort { offset: 12, kind: 1, len: 11 }),
        (&[9, 15, 0, 0, 1, 0, 0, 0], MadtError::EntryTooShort { offset: 12, kind: 9, len: 15 }),
        (&TYPE_9[..15], MadtError::EntryTooLong { offset: 12, kind: 9, len: 16 }),
        (&[0x7f, 255], MadtError::EntryTooLong { offset: 12, kind: 0x7f, len: 255 }),
        (&[0], MadtError::Truncated { offset: 12 }),
    ];
    for (bytes, expected) in cases {
        let table = table_of(&[&IO_APIC[..], bytes].concat());
        assert_eq!(Madt::parse(&table).err(), Some(*expected));
        assert!(expected.to_string().contains("offset 12"));
        let mut entries = Entries { bytes: &table[MADT_HEADER_LEN..], offset: 0 };
        assert_eq!(entries.by_ref().count(), 2, "the error must follow the I/O APIC and be the last item");
    }
}

#[test]
fn table_shorter_than_its_header_is_rejected() {
    for len in [0, 36, MADT_HEADER_LEN - 1] {
        let error = Madt::parse(&[0; MADT_HEADER_LEN][..len]).err();
        assert_eq!(error, Some(MadtError::NoHeader { len }));
        assert!(error.is_some_and(|error| error.to_string().contains(&format!("only {len} bytes"))));
    }
}

proptest! {
    #[test]
    fn any_bytes_satisfy_the_properties(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0..17_u8], 0..600), bsp in 0..300_u32, x2: bool,
    ) {
        properties::topology(&table_of(&bytes), bsp, if x2 { ApicMode::X2Apic } else { ApicMode::XApic });
    }

    #[test]
    fn any_entries_satisfy_the_properties(
        given in prop::collection::vec((0..20_u8, 0..24_usize, any::<[u8; 24]>()), 0..40), bsp in 0..300_u32, x2: bool,
    ) {
        // Generate valid lengths, so that the walk gets beyond the first entry.
        let entry = |(kind, more, body): (u8, usize, [u8; 24])| {
            let len = (least_len(kind) + more).min(2 + body.len());
            [&[kind, len as u8], &body[..len - 2]].concat()
        };
        let bytes: Vec<u8> = given.into_iter().flat_map(entry).collect();
        properties::topology(&table_of(&bytes), bsp, if x2 { ApicMode::X2Apic } else { ApicMode::XApic });
    }

    #[test]
    fn any_entries_give_a_list_of_distinct_ids(
        given in prop::collection::vec((any::<bool>(), prop_oneof![any::<u32>(), 0..300_u32], 0..4_u32), 0..40),
        bsp in 0..300_u32, x2 in any::<bool>(),
    ) {
        let given: Vec<_> = given.into_iter().map(|(wide, apic_id, flags)| if wide {
            MadtEntry::X2ApicCpu { apic_id, flags }
        } else {
            MadtEntry::XApicCpu { apic_id: apic_id as u8, flags }
        }).collect();
        let mode = if x2 { ApicMode::X2Apic } else { ApicMode::XApic };
        let (list, _) = cpus(&table(&given), bsp, mode);
        prop_assert_eq!(list[0], bsp);
        let distinct: std::collections::BTreeSet<_> = list.iter().collect();
        prop_assert_eq!(distinct.len(), list.len());
        for id in &list[1..] {
            prop_assert!(x2 || *id < 255);
            prop_assert!(given.iter().any(|entry| entry.enabled_id() == Some(ApicId(*id))));
        }
    }
}
