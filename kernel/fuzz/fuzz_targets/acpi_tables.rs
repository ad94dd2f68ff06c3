//! Fuzzes the search for ACPI tables. Input: one byte that says whether checksums are repaired, then the memory with the
//! RSDP at its start.
#![no_main]

use kernel::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [repair, memory @ ..] = data else { return };
    let mut memory = memory.to_vec();
    if repair & 1 == 1 {
        properties::repair_checksums(&mut memory);
    }
    properties::firmware(&memory);
});
