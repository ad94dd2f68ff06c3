//! Packs records into 4 to 15 bytes in most cases, instead of 32. The host has to store millions of records per second
//! while the guest uses the same cores.
//!
//! ```text
//!   control   u16: kind in bits 0-3; number of bytes of tsc, a and b in bits 4-7, 8-11, 12-15
//!   tsc       difference to the previous record; tsc, a and b are stored without leading zero bytes
//!   a
//!   b
//! ```
//!
//! All fields are little-endian. The sequence is not stored: it is 1 more than that of the previous record. A record
//! that does not fit this scheme is stored as a control word of 0 followed by the unpacked record.

use super::Record;

/// The maximum number of bytes of a packed record.
pub const LONGEST: usize = CONTROL + size_of::<Record>();
const CONTROL: usize = 2;

/// The state that both packer and unpacker keep: the previous record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packing {
    tsc: u64,
    sequence: u32,
}

impl Packing {
    /// Packs records into `out` and returns the number of bytes written.
    ///
    /// # Panics
    /// If `out` is shorter than [`LONGEST`] bytes for each record.
    #[inline(never)]
    pub fn pack(&mut self, records: &[Record], out: &mut [u8]) -> usize {
        let mut at = 0;
        for record in records {
            let delta = record.tsc.wrapping_sub(self.tsc);
            let next = self.sequence.wrapping_add(1);
            *self = Packing { tsc: record.tsc, sequence: record.sequence };
            let out = &mut out[at..at + LONGEST];
            if record.sequence != next || record.kind == 0 || record.kind > 15 || record.reserved != 0 {
                out[..CONTROL].fill(0);
                out[CONTROL..].copy_from_slice(bytemuck::bytes_of(record));
                at += LONGEST;
                continue;
            }
            let (mut control, mut length) = (record.kind, CONTROL);
            for (n, field) in [delta, record.a, record.b].into_iter().enumerate() {
                // Write all eight bytes in one store. The next field overwrites the leading zero bytes.
                out[length..length + 8].copy_from_slice(&field.to_le_bytes());
                let bytes = 8 - field.leading_zeros() as usize / 8;
                control |= (bytes as u16) << (4 + 4 * n);
                length += bytes;
            }
            out[..CONTROL].copy_from_slice(&control.to_le_bytes());
            at += length;
        }
        at
    }

    /// Unpacks complete records from `bytes` until `out` is full or no complete record is left. Returns the number of
    /// bytes read and the number of records.
    #[inline(never)]
    pub fn unpack(&mut self, bytes: &[u8], out: &mut [Record]) -> (usize, usize) {
        let mut at = 0;
        for (n, record) in out.iter_mut().enumerate() {
            let Some((packed, length)) = self.unpack_one(&bytes[at..]) else { return (at, n) };
            (*record, at) = (packed, at + length);
        }
        (at, out.len())
    }

    fn unpack_one(&mut self, bytes: &[u8]) -> Option<(Record, usize)> {
        let (control, rest) = bytes.split_first_chunk::<CONTROL>()?;
        let control = u16::from_le_bytes(*control);
        let (record, length) = if control == 0 {
            (bytemuck::try_pod_read_unaligned(rest.get(..size_of::<Record>())?).ok()?, LONGEST)
        } else {
            let (mut fields, mut length) = ([0; 3], 0);
            for (n, field) in fields.iter_mut().enumerate() {
                let bytes = usize::from(control >> (4 + 4 * n) & 15);
                let mut word = [0; 8];
                word.get_mut(..bytes)?.copy_from_slice(rest.get(length..length + bytes)?);
                *field = u64::from_le_bytes(word);
                length += bytes;
            }
            let [delta, a, b] = fields;
            let (tsc, sequence) = (self.tsc.wrapping_add(delta), self.sequence.wrapping_add(1));
            (Record { tsc, a, b, sequence, kind: control & 15, reserved: 0 }, CONTROL + length)
        };
        *self = Packing { tsc: record.tsc, sequence: record.sequence };
        Some((record, length))
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;
    use std::{slice, vec};

    use super::*;

    fn record(tsc: u64, a: u64, b: u64, sequence: u32, kind: u16) -> Record {
        Record { tsc, a, b, sequence, kind, reserved: 0 }
    }

    /// Packs and unpacks records, and returns the length of each packed record.
    fn round_trip(records: &[Record]) -> Vec<usize> {
        let (mut there, mut back) = (Packing::default(), Packing::default());
        let mut lengths = Vec::new();
        for one in records {
            let mut bytes = [0xff; LONGEST];
            let length = there.pack(slice::from_ref(one), &mut bytes);
            let mut out = [Record::default()];
            // The record unpacks only once its last byte is available, and consumes exactly its length.
            assert_eq!(back.unpack(&bytes[..length - 1], &mut out), (0, 0), "{one:?}");
            assert_eq!(back.unpack(&bytes, &mut out), (length, 1), "{one:?}");
            assert_eq!(out[0], *one);
            lengths.push(length);
        }
        lengths
    }

    #[test]
    fn any_record_survives_a_round_trip() {
        let usual = [
            record(1000, 0, u64::MAX, 1, 1),
            record(1000, 0, 0, 2, 2),
            record(1300, 255, 256, 3, 15),
            // The TSC is earlier than that of the previous record, as may happen with an NMI.
            record(1200, 0, 0, 4, 7),
        ];
        assert_eq!(round_trip(&usual), [2 + 2 + 8, 2, 2 + 2 + 1 + 2, 2 + 8]);
        let odd = [
            record(5, 1, 2, 9, 3),
            record(6, 1, 2, 9, 3),
            record(7, 1, 2, 10, 0),
            record(8, 1, 2, 11, 16),
            Record { reserved: 1, ..record(9, 1, 2, 12, 3) },
            record(u64::MAX, 1, 2, u32::MAX, 3),
            record(0, 0, 0, 0, 3),
        ];
        assert_eq!(round_trip(&odd), [34, 34, 34, 34, 34, 34, 3]);
    }

    #[test]
    fn records_unpack_from_chunks() {
        let records: Vec<_> =
            (0..1000u32).map(|n| record(u64::from(n) * 700, n.into(), 1, n + 1, 2)).collect();
        let mut bytes = vec![0; records.len() * LONGEST];
        let length = Packing::default().pack(&records, &mut bytes);
        assert!(length < records.len() * 8, "{length}");
        let (mut packing, mut back, mut at, mut end) = (Packing::default(), Vec::new(), 0, 0);
        while at < length {
            // Some chunks end in the middle of a record.
            end = (end + 100).min(length);
            let mut out = [Record::default(); 7];
            let (used, count) = packing.unpack(&bytes[at..end], &mut out);
            back.extend_from_slice(&out[..count]);
            at += used;
        }
        assert!(back == records);
    }

    #[test]
    fn unpack_never_panics() {
        // Test every control word with different numbers of bytes after it.
        for control in 0..=u16::MAX {
            let mut bytes = [0xa5; LONGEST];
            bytes[..2].copy_from_slice(&control.to_le_bytes());
            for length in [0, 1, 2, 3, 10, 26, LONGEST] {
                let (used, count) = Packing::default().unpack(&bytes[..length], &mut [Record::default()]);
                assert!(used <= length && (count == 0) == (used == 0));
            }
        }
    }
}
