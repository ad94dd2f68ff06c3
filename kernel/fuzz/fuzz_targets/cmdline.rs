//! The kernel's command line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kernel::properties::command_line(data));
