//! Fuzzes the check of a memory range from ring 3. Input, 8 bytes each: pointer, length, and the number of bytes to
//! take from the range.
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
