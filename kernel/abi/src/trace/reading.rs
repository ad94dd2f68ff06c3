//! Loops over all records of a ring. A stream carries millions of records per second, and reading it takes host CPU
//! time from the guest. So the loops are kept simple, and the host tool's build optimises this crate.

use super::{Kind, Record};

/// Compares a record's sequence with the one expected in slot number `place`, counted from 0, and returns the
/// difference. Negative: the record is not written yet. 0: the record belongs to this slot. Positive: the slot has been
/// reused.
#[must_use]
pub fn ahead(record: &Record, place: u64) -> i32 {
    // Sequences count from 1 and wrap around.
    record.sequence.wrapping_sub((place as u32).wrapping_add(1)).cast_signed()
}

/// Returns records with their slot numbers, starting at `place`. `place` comes from the guest, so it may be any number.
fn placed(records: &[Record], place: u64) -> impl Iterator<Item = (&Record, u64)> {
    records.iter().zip(0..).map(move |(record, n)| (record, place.wrapping_add(n)))
}

/// Returns the number of consecutive written records at the start of `records`. The first record has slot number
/// `place`.
#[inline(never)]
#[must_use]
pub fn written(records: &[Record], place: u64) -> usize {
    let unwritten = placed(records, place).position(|(record, place)| ahead(record, place) < 0);
    unwritten.unwrap_or(records.len())
}

/// Returns the number of consecutive records at the start of `records` that belong to their slots. The first record has
/// slot number `place`.
#[inline(never)]
#[must_use]
pub fn matching(records: &[Record], place: u64) -> usize {
    let other = placed(records, place).position(|(record, place)| ahead(record, place) != 0);
    other.unwrap_or(records.len())
}

/// Returns the number of records of this kind.
#[inline(never)]
#[must_use]
pub fn count(records: &[Record], kind: Kind) -> u64 {
    records.iter().filter(|record| record.kind == kind as u16).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u32, kind: Kind) -> Record {
        Record { sequence, kind: kind as u16, ..Record::default() }
    }

    #[test]
    fn sequence_shows_whether_a_record_belongs_to_its_slot() {
        let at = |sequence, place| ahead(&record(sequence, Kind::Tick), place);
        assert_eq!((at(8, 7), at(7, 7), at(0, 7), at(8 + 64, 7)), (0, -1, -8, 64));
        // The low half of the record number wraps around.
        assert_eq!((at(0, (1 << 32) - 1), at(1, 1 << 32), at(u32::MAX, 1 << 32)), (0, 0, -2));
    }

    #[test]
    fn written_and_matching_stop_at_the_first_mismatch() {
        let records = [4, 5, 70, 7, 0, 9].map(|sequence| record(sequence, Kind::Tick));
        assert_eq!((written(&records, 3), matching(&records, 3)), (4, 2));
        assert_eq!((written(&records[..2], 3), matching(&records[..2], 3)), (2, 2));
        assert_eq!((written(&records, 4), matching(&[], 3)), (0, 0));
        // With an invalid head the slot numbers wrap around.
        let last = [0, 1].map(|sequence| record(sequence, Kind::Tick));
        assert_eq!((written(&last, u64::MAX), matching(&last, u64::MAX)), (2, 2));
    }

    #[test]
    fn kinds_are_counted() {
        let records = [Kind::Tick, Kind::User, Kind::Tick].map(|kind| record(1, kind));
        assert_eq!((count(&records, Kind::Tick), count(&records, Kind::Nmi)), (2, 0));
    }
}
