//! Sizes and places in [`kernel_abi::trace`], whose structures are read and written as the bytes that they are.

use std::mem::{offset_of, size_of};

use kernel_abi::trace::{Record, RingHeader};

/// Bytes of a record.
pub const RECORD: usize = size_of::<Record>();
/// Bytes of a ring's header.
pub const RING_HEADER: usize = size_of::<RingHeader>();
/// Where a ring's header holds `tail`.
pub const TAIL: u64 = offset_of!(RingHeader, tail) as u64;

const _: () = {
    assert!(RECORD == 32, "trace files hold 32-byte records; another size needs another file version");
    assert!(RING_HEADER.is_multiple_of(64), "records begin on a cache line");
    assert!(TAIL.is_multiple_of(8), "the tail is written at once, so it may not straddle a cache line");
};

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn a_records_bytes_are_in_the_documented_order() {
        let whole = Record { tsc: 1 << 40, a: u64::MAX, b: 3, sequence: 4, kind: 5, reserved: 6 };
        let bytes = whole.as_bytes();
        // Other tools read them.
        assert_eq!(bytes[..8], (1u64 << 40).to_le_bytes());
        assert_eq!(bytes[8..16], u64::MAX.to_le_bytes());
        assert_eq!(bytes[16..24], 3u64.to_le_bytes());
        assert_eq!(bytes[24..], [4, 0, 0, 0, 5, 0, 6, 0]);
    }
}
