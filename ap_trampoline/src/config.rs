//! The data that the trampoline reads from its page: GDT, far pointers, register values and the address of the slots.

use core::mem::{offset_of, size_of};

use crate::Parameters;

/// The offset of [`Config`] in the page. The assembler checks that the code ends before it.
pub(crate) const CONFIG_OFFSET: usize = 0x200;

/// The selector of the 64-bit code segment. The bring-up GDT and the kernel's own GDT have 64-bit code and data at the
/// same selectors, so CS and SS stay valid when the kernel switches GDTs.
pub(crate) const CODE64_SELECTOR: u16 = 0x08;
/// The selector of the data segment, for every data segment register.
pub(crate) const DATA_SELECTOR: u16 = 0x10;
/// The selector of the 32-bit code segment, used only between setting CR0.PE and entering long mode.
pub(crate) const CODE32_SELECTOR: u16 = 0x18;

/// Bits of a segment descriptor (Intel SDM vol. 3A, 3.4.5).
mod descriptor {
    /// All bits of the limit (15:0 and 19:16). With `GRANULARITY` the limit is 4 GiB.
    const LIMIT_MAX: u64 = 0xffff | 0xf << 48;
    /// The CPU sets this bit when it loads the segment. It is preset because the page that holds the GDT is read-only
    /// when the 64-bit code segment is loaded, and the CPU's write would fault.
    const ACCESSED: u64 = 1 << 40;
    /// Code: readable. Data: writable; SS cannot be loaded without this bit.
    const READ_WRITE: u64 = 1 << 41;
    const EXECUTABLE: u64 = 1 << 43;
    /// A code or data segment, not a system segment.
    const USER_SEGMENT: u64 = 1 << 44;
    const PRESENT: u64 = 1 << 47;
    /// A 64-bit code segment. `DEFAULT_32` must then be clear.
    const LONG: u64 = 1 << 53;
    /// Operands and addresses are 32 bits wide.
    const DEFAULT_32: u64 = 1 << 54;
    /// The limit counts 4 KiB pages.
    const GRANULARITY: u64 = 1 << 55;

    /// Base 0, limit 4 GiB, DPL 0.
    const FLAT: u64 = LIMIT_MAX | ACCESSED | READ_WRITE | USER_SEGMENT | PRESENT | GRANULARITY;
    pub(super) const CODE64: u64 = FLAT | EXECUTABLE | LONG;
    pub(super) const CODE32: u64 = FLAT | EXECUTABLE | DEFAULT_32;
    pub(super) const DATA: u64 = FLAT | DEFAULT_32;
}

const GDT_ENTRIES: usize = 4;

/// The bring-up GDT.
const GDT: [u64; GDT_ENTRIES] = {
    let mut gdt = [0; GDT_ENTRIES];
    gdt[(CODE64_SELECTOR / 8) as usize] = descriptor::CODE64;
    gdt[(DATA_SELECTOR / 8) as usize] = descriptor::DATA;
    gdt[(CODE32_SELECTOR / 8) as usize] = descriptor::CODE32;
    gdt
};

/// The operand of LGDT and LIDT outside 64-bit mode.
#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct TablePointer {
    /// The offset of the table's last byte.
    limit: u16,
    base: u32,
}

/// The operand of a far jump through memory with 32-bit operand size.
#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct FarPointer {
    offset: u32,
    selector: u16,
}

/// The trampoline's variables. The assembly refers to them only by `offset_of!`.
#[repr(C)]
pub(crate) struct Config {
    gdt: [u64; GDT_ENTRIES],
    pub(crate) slots: u64,
    pub(crate) entry: u64,
    pub(crate) apic_registers: u64,
    pub(crate) slot_count: u32,
    pub(crate) cr0: u32,
    pub(crate) cr3: u32,
    pub(crate) cr4: u32,
    pub(crate) efer: u32,
    /// 1 in x2APIC mode, else 0.
    pub(crate) x2apic: u32,
    pub(crate) basic_features: u32,
    pub(crate) extended_features: u32,
    /// Physical address of the report.
    pub(crate) report: u32,
    gdtr: TablePointer,
    idtr: TablePointer,
    far32: FarPointer,
    far64: FarPointer,
    reserved: u32,
}

pub(crate) const CONFIG_SIZE: usize = size_of::<Config>();

pub(crate) const GDTR: usize = CONFIG_OFFSET + offset_of!(Config, gdtr);
pub(crate) const IDTR: usize = CONFIG_OFFSET + offset_of!(Config, idtr);
pub(crate) const FAR32: usize = CONFIG_OFFSET + offset_of!(Config, far32);
pub(crate) const FAR64: usize = CONFIG_OFFSET + offset_of!(Config, far64);

const _: () = assert!(CONFIG_OFFSET + CONFIG_SIZE <= 4096, "code and config must fit in one page");
const _: () = assert!(CONFIG_OFFSET.is_multiple_of(64), "config must start on a cache line");
const _: () = assert!(
    size_of::<TablePointer>() == 6 && offset_of!(TablePointer, base) == 2,
    "LGDT and LIDT read a 16-bit limit, then a 32-bit base"
);
const _: () = assert!(
    size_of::<FarPointer>() == 6 && offset_of!(FarPointer, selector) == 4,
    "a far jump reads a 32-bit offset, then a selector"
);
const _: () = assert!(
    CONFIG_SIZE == 8 * GDT_ENTRIES + 3 * 8 + 9 * 4 + 4 * 6 + 4,
    "config must have no padding: its bytes are copied"
);

impl Config {
    /// Builds the config for these parameters. `code32` and `code64` are offsets in the page.
    pub(crate) fn new(parameters: &Parameters, code32: u32, code64: u32) -> Self {
        let page = parameters.page;
        let gdt_offset = (CONFIG_OFFSET + offset_of!(Config, gdt)) as u32;
        let gdt_limit = size_of_val(&GDT) as u16 - 1;
        Self {
            gdt: GDT,
            slots: parameters.slots,
            entry: parameters.entry,
            apic_registers: parameters.apic_registers,
            slot_count: parameters.slot_count,
            cr0: parameters.cr0,
            cr3: parameters.cr3,
            cr4: parameters.cr4,
            efer: parameters.efer,
            x2apic: parameters.x2apic.into(),
            basic_features: parameters.basic_features,
            extended_features: parameters.extended_features,
            report: parameters.report,
            gdtr: TablePointer { limit: gdt_limit, base: page + gdt_offset },
            idtr: TablePointer { limit: 0, base: 0 },
            far32: FarPointer { offset: page + code32, selector: CODE32_SELECTOR },
            far64: FarPointer { offset: page + code64, selector: CODE64_SELECTOR },
            reserved: 0,
        }
    }

    /// Returns the bytes to be written to the page.
    pub(crate) fn into_bytes(self) -> [u8; CONFIG_SIZE] {
        // SAFETY: `Config` consists only of integers and has no padding, as asserted above. So all its bytes are
        // initialised, and every value is valid for an array of `u8` of the same size.
        unsafe { core::mem::transmute(self) }
    }
}
