//! A range of memory that ring 3 claims to have: pointer, length, and how much of it is asked for, 8 bytes each.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (words, []) = data.as_chunks::<8>() else { return };
    let [pointer, length, first] = words else { return };
    kernel::properties::user_slice(
        u64::from_le_bytes(*pointer),
        u64::from_le_bytes(*length),
        u64::from_le_bytes(*first),
    );
});
