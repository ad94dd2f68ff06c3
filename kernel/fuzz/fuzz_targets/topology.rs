//! A MADT, as firmware has it in memory: two bytes for the BSP's APIC id, one for the APIC's mode, then the table's bytes.
//! They go through the parser that the kernel boots with.
#![no_main]

use kernel::topology::ApicMode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [low, high, mode, table @ ..] = data else { return };
    let mode = if mode & 1 == 0 { ApicMode::XApic } else { ApicMode::X2Apic };
    kernel::properties::topology(table, u16::from_le_bytes([*low, *high]).into(), mode);
});
