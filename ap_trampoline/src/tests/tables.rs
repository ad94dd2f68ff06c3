//! Tests of the tables after the code (GDT, IDT, far pointers) and of the layout of the page.

use iced_x86::Mnemonic;

use super::{Code, PAGES, installed, operand_offset, u16_at, u32_at, u64_at};
use crate::config::{CODE32_SELECTOR, CODE64_SELECTOR, CONFIG_OFFSET, CONFIG_SIZE, DATA_SELECTOR};
use crate::{CodeLayout, FILL};

/// A segment descriptor, field by field (Intel SDM vol. 3A, figure 3-8).
#[derive(Debug, PartialEq)]
struct Descriptor {
    base: u32,
    limit: u32,
    accessed: bool,
    read_write: bool,
    expand_down_or_conforming: bool,
    executable: bool,
    code_or_data: bool,
    dpl: u8,
    present: bool,
    available: bool,
    long: bool,
    default_32: bool,
    pages: bool,
}

fn descriptor(word: u64) -> Descriptor {
    let bit = |n: u32| word >> n & 1 == 1;
    Descriptor {
        base: (word >> 16 & 0xff_ffff) as u32 | ((word >> 56) as u32) << 24,
        limit: (word & 0xffff) as u32 | ((word >> 48 & 0xf) as u32) << 16,
        accessed: bit(40),
        read_write: bit(41),
        expand_down_or_conforming: bit(42),
        executable: bit(43),
        code_or_data: bit(44),
        dpl: (word >> 45 & 3) as u8,
        present: bit(47),
        available: bit(52),
        long: bit(53),
        default_32: bit(54),
        pages: bit(55),
    }
}

/// A present, flat, writable data segment of ring 0 with the Accessed bit set.
const FLAT_DATA: Descriptor = Descriptor {
    base: 0,
    limit: 0xf_ffff,
    accessed: true,
    read_write: true,
    expand_down_or_conforming: false,
    executable: false,
    code_or_data: true,
    dpl: 0,
    present: true,
    available: false,
    long: false,
    default_32: true,
    pages: true,
};

/// Returns limit and base from the operand of the only LGDT or LIDT.
fn table_pointer(bytes: &[u8], mnemonic: Mnemonic) -> (u16, u32) {
    let code = Code::of(bytes);
    let mut loads = code.all().filter(|instruction| instruction.mnemonic() == mnemonic);
    let offset = operand_offset(loads.next().expect("no instruction loads the table"));
    assert!(loads.next().is_none(), "the table is loaded more than once");
    (u16_at(bytes, offset), u32_at(bytes, offset + 2))
}

#[test]
fn gdtr_spans_the_gdt_in_this_page() {
    for page in PAGES {
        let bytes = installed(page);
        let (limit, base) = table_pointer(&bytes, Mnemonic::Lgdt);
        assert_eq!(limit, 4 * 8 - 1);
        let offset = (base - page) as usize;
        assert!(offset >= CONFIG_OFFSET && offset + usize::from(limit) < CONFIG_OFFSET + CONFIG_SIZE);
        assert_eq!(offset % 8, 0);
    }
}

#[test]
fn gdt_is_null_code64_data_code32_with_accessed_preset() {
    let page = 0x8000;
    let bytes = installed(page);
    let (_, base) = table_pointer(&bytes, Mnemonic::Lgdt);
    let entry = |selector: u16| u64_at(&bytes, (base - page) as usize + usize::from(selector));

    assert_eq!(entry(0), 0);
    assert_eq!(
        descriptor(entry(CODE64_SELECTOR)),
        Descriptor { executable: true, long: true, default_32: false, ..FLAT_DATA }
    );
    assert_eq!(descriptor(entry(DATA_SELECTOR)), FLAT_DATA);
    assert_eq!(descriptor(entry(CODE32_SELECTOR)), Descriptor { executable: true, ..FLAT_DATA });
}

#[test]
fn idt_is_empty() {
    for page in PAGES {
        assert_eq!(table_pointer(&installed(page), Mnemonic::Lidt), (0, 0));
    }
}

#[test]
fn far_jumps_land_on_the_next_part() {
    let layout = CodeLayout::of_blob();
    for page in PAGES {
        let bytes = installed(page);
        let code = Code::of(&bytes);
        let parts =
            [(&code.real, layout.code32, CODE32_SELECTOR), (&code.protected, layout.code64, CODE64_SELECTOR)];
        for (part, target, selector) in parts {
            let jump = part.last().unwrap();
            assert!(jump.is_jmp_far_indirect() && jump.code() == iced_x86::Code::Jmp_m1632, "{jump}");
            let pointer = operand_offset(jump);
            assert_eq!(u32_at(&bytes, pointer), page + target as u32);
            assert_eq!(u16_at(&bytes, pointer + 4), selector);
        }
    }
}

#[test]
fn code_config_and_fill_do_not_overlap() {
    let bytes = installed(0x8000);
    let end = CodeLayout::of_blob().end;
    let config_end = CONFIG_OFFSET + CONFIG_SIZE;
    assert!(end <= CONFIG_OFFSET && config_end <= bytes.len());
    let is_fill = |byte: &u8| *byte == FILL;
    assert!(bytes[end..CONFIG_OFFSET].iter().all(is_fill));
    assert!(bytes[config_end..].iter().all(is_fill));
}

/// Two installed pages differ only in the base of the GDT and the two far pointers, not in the code.
#[test]
fn code_does_not_depend_on_its_page() {
    let (low, high) = (installed(0x1000), installed(0xff000));
    let code = Code::of(&low);
    let patched: Vec<usize> = [
        code.real.iter().find(|instruction| instruction.mnemonic() == Mnemonic::Lgdt).unwrap(),
        code.real.last().unwrap(),
        code.protected.last().unwrap(),
    ]
    .into_iter()
    .map(operand_offset)
    .collect();
    for offset in (0..low.len()).filter(|&offset| low[offset] != high[offset]) {
        assert!(patched.iter().any(|&start| (start..start + 6).contains(&offset)), "byte {offset:#x}");
    }
}
