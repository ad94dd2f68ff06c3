//! Fuzzes the MADT parser that the kernel uses at boot. Input: two bytes for the BSP's APIC id, one byte for the APIC
//! mode, then the bytes of the table.
#![no_main]

use kernel::topology::ApicMode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [low, high, mode, table @ ..] = data else { return };
    let mode = if mode & 1 == 0 { ApicMode::XApic } else { ApicMode::X2Apic };
    kernel::properties::topology(table, u16::from_le_bytes([*low, *high]).into(), mode);
});
