//! The bytes of [`kernel_abi::trace`], read and written field by field at the offsets that the compiler gives
//! the kernel's own structures: there is no second definition that could drift.
//!
//! Numbers are little-endian, in guest memory as in a trace file.

use std::mem::{offset_of, size_of};

use kernel_abi::trace::{Directory, MAGIC, Record, RingHeader};

/// Bytes of a record.
pub const RECORD: usize = size_of::<Record>();
/// Bytes of a ring's header.
pub const RING_HEADER: usize = size_of::<RingHeader>();
/// Bytes of a directory.
pub const DIRECTORY: usize = size_of::<Directory>();
/// Where a ring's header holds `tail`.
pub const TAIL: u64 = offset_of!(RingHeader, tail) as u64;

const _: () = {
    assert!(RECORD == 32, "trace files hold 32-byte records; another size needs another file version");
    assert!(RING_HEADER.is_multiple_of(64), "records begin on a cache line");
    assert!(TAIL.is_multiple_of(8), "the tail is written at once, so it may not straddle a cache line");
};

/// `N` bytes from `at` on.
fn bytes<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&from[at..at + N]);
    bytes
}

fn u32_at(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(from, at))
}

fn u64_at(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(from, at))
}

/// The record in these bytes.
pub fn record(from: &[u8; RECORD]) -> Record {
    Record {
        tsc: u64_at(from, offset_of!(Record, tsc)),
        a: u64_at(from, offset_of!(Record, a)),
        b: u64_at(from, offset_of!(Record, b)),
        sequence: u32_at(from, offset_of!(Record, sequence)),
        kind: u16::from_le_bytes(bytes(from, offset_of!(Record, kind))),
        reserved: u16::from_le_bytes(bytes(from, offset_of!(Record, reserved))),
    }
}

/// The sequence of the `n`-th of these records. Of millions a second, in a build that is not optimized: hence no
/// call but the last.
pub fn nth_sequence(records: &[u8], n: usize) -> u32 {
    let at = n * RECORD + offset_of!(Record, sequence);
    u32::from_le_bytes([records[at], records[at + 1], records[at + 2], records[at + 3]])
}

/// The kind's number of the `n`-th of these records.
pub fn nth_kind(records: &[u8], n: usize) -> u16 {
    let at = n * RECORD + offset_of!(Record, kind);
    u16::from_le_bytes([records[at], records[at + 1]])
}

/// A record's bytes.
pub fn record_bytes(record: &Record) -> [u8; RECORD] {
    let mut to = [0; RECORD];
    let mut put = |at: usize, field: &[u8]| to[at..at + field.len()].copy_from_slice(field);
    put(offset_of!(Record, tsc), &record.tsc.to_le_bytes());
    put(offset_of!(Record, a), &record.a.to_le_bytes());
    put(offset_of!(Record, b), &record.b.to_le_bytes());
    put(offset_of!(Record, sequence), &record.sequence.to_le_bytes());
    put(offset_of!(Record, kind), &record.kind.to_le_bytes());
    put(offset_of!(Record, reserved), &record.reserved.to_le_bytes());
    to
}

/// The ring header in these bytes.
pub fn ring_header(from: &[u8; RING_HEADER]) -> RingHeader {
    let mut header = RingHeader::default();
    header.head = u64_at(from, offset_of!(RingHeader, head));
    header.dropped = u64_at(from, offset_of!(RingHeader, dropped));
    header.cpu = u32_at(from, offset_of!(RingHeader, cpu));
    header.apic_id = u32_at(from, offset_of!(RingHeader, apic_id));
    header.tsc_offset = i64::from_le_bytes(bytes(from, offset_of!(RingHeader, tsc_offset)));
    header.tail = u64_at(from, offset_of!(RingHeader, tail));
    header
}

/// The directory in these bytes, if they begin with its magic. Nothing else is checked.
pub fn directory(from: &[u8; DIRECTORY]) -> Option<Directory> {
    from.starts_with(&MAGIC).then(|| Directory {
        magic: MAGIC,
        cpus: u32_at(from, offset_of!(Directory, cpus)),
        capacity: u32_at(from, offset_of!(Directory, capacity)),
        first_ring: u64_at(from, offset_of!(Directory, first_ring)),
        ring_stride: u64_at(from, offset_of!(Directory, ring_stride)),
        tsc_hz: u64_at(from, offset_of!(Directory, tsc_hz)),
        boot_tsc: u64_at(from, offset_of!(Directory, boot_tsc)),
        kinds: u32_at(from, offset_of!(Directory, kinds)),
        mode: u32_at(from, offset_of!(Directory, mode)),
    })
}

#[cfg(test)]
pub mod write {
    //! The other direction, for the tests' synthetic guests.

    use super::*;

    /// A ring header's bytes.
    pub fn ring_header_bytes(header: &RingHeader) -> [u8; RING_HEADER] {
        let mut to = [0; RING_HEADER];
        let mut put = |at: usize, field: &[u8]| to[at..at + field.len()].copy_from_slice(field);
        put(offset_of!(RingHeader, head), &header.head.to_le_bytes());
        put(offset_of!(RingHeader, dropped), &header.dropped.to_le_bytes());
        put(offset_of!(RingHeader, cpu), &header.cpu.to_le_bytes());
        put(offset_of!(RingHeader, apic_id), &header.apic_id.to_le_bytes());
        put(offset_of!(RingHeader, tsc_offset), &header.tsc_offset.to_le_bytes());
        put(offset_of!(RingHeader, tail), &header.tail.to_le_bytes());
        to
    }

    /// A directory's bytes.
    pub fn directory_bytes(directory: &Directory) -> [u8; DIRECTORY] {
        let mut to = [0; DIRECTORY];
        let mut put = |at: usize, field: &[u8]| to[at..at + field.len()].copy_from_slice(field);
        put(offset_of!(Directory, magic), &directory.magic);
        put(offset_of!(Directory, cpus), &directory.cpus.to_le_bytes());
        put(offset_of!(Directory, capacity), &directory.capacity.to_le_bytes());
        put(offset_of!(Directory, first_ring), &directory.first_ring.to_le_bytes());
        put(offset_of!(Directory, ring_stride), &directory.ring_stride.to_le_bytes());
        put(offset_of!(Directory, tsc_hz), &directory.tsc_hz.to_le_bytes());
        put(offset_of!(Directory, boot_tsc), &directory.boot_tsc.to_le_bytes());
        put(offset_of!(Directory, kinds), &directory.kinds.to_le_bytes());
        put(offset_of!(Directory, mode), &directory.mode.to_le_bytes());
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_round_trip() {
        let whole = Record { tsc: 1 << 40, a: u64::MAX, b: 3, sequence: 4, kind: 5, reserved: 6 };
        let bytes = record_bytes(&whole);
        assert_eq!(record(&bytes), whole);
        assert_eq!((nth_sequence(&bytes, 0), nth_kind(&bytes, 0)), (4, 5));
        // The documented order, which other tools read.
        assert_eq!(bytes[..8], (1u64 << 40).to_le_bytes());
        assert_eq!(bytes[24..], [4, 0, 0, 0, 5, 0, 6, 0]);
    }
}
