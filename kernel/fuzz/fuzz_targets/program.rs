//! Fuzzes the parser of program files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kernel::properties::program(data));
