//! Sizes and offsets of the structures in [`kernel_abi::trace`], which this tool reads and writes as raw bytes.

use std::mem::{offset_of, size_of};

use kernel_abi::trace::{Record, RingHeader};

/// Size of a record in bytes.
pub const RECORD: usize = size_of::<Record>();
/// Size of a ring's header in bytes.
pub const RING_HEADER: usize = size_of::<RingHeader>();
/// Offset of `tail` in a ring's header.
pub const TAIL: u64 = offset_of!(RingHeader, tail) as u64;

const _: () = {
    assert!(RECORD == 32, "trace files contain 32-byte records; another size needs a new file version");
    assert!(RING_HEADER.is_multiple_of(64), "records must begin on a cache line");
    assert!(
        TAIL.is_multiple_of(8),
        "the tail is written with one store, so it must not straddle a cache line"
    );
};

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn record_bytes_are_in_the_documented_order() {
        let record = Record { tsc: 1 << 40, a: u64::MAX, b: 3, sequence: 4, kind: 5, reserved: 6 };
        let bytes = bytemuck::bytes_of(&record);
        // Other tools depend on this order.
        assert_eq!(bytes[..8], (1u64 << 40).to_le_bytes());
        assert_eq!(bytes[8..16], u64::MAX.to_le_bytes());
        assert_eq!(bytes[16..24], 3u64.to_le_bytes());
        assert_eq!(bytes[24..], [4, 0, 0, 0, 5, 0, 6, 0]);
    }
}
