//! Fuzzes the parser of the kernel command line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kernel::properties::command_line(data));
