//! The entries of a MADT, as firmware has them in memory: two bytes for the BSP's APIC id, one for the APIC's mode, then
//! the table's bytes behind its header.
#![no_main]

use kernel::topology::ApicMode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [low, high, mode, bytes @ ..] = data else { return };
    let mode = if mode & 1 == 0 { ApicMode::XApic } else { ApicMode::X2Apic };
    kernel::laws::topology(bytes, u16::from_le_bytes([*low, *high]).into(), mode);
});
