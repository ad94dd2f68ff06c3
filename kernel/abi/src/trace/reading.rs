//! What a reader does with every record of a ring. A stream brings millions a second, and takes the host's cores from the
//! guest while it does: so these are plain loops, and the build of the host tool optimizes this crate.

use super::{Kind, Record};

/// How far a record's sequence is ahead of that of its place, the `place`-th from 0: negative, it is not written yet; 0,
/// it is this place's; positive, the place has been taken again.
#[must_use]
pub fn ahead(record: &Record, place: u64) -> i32 {
    // Sequences count from 1 and wrap around.
    record.sequence.wrapping_sub((place as u32).wrapping_add(1)).cast_signed()
}

/// Records with their places, of which the first is this one. A place may be anything: it comes from the guest.
fn placed(records: &[Record], place: u64) -> impl Iterator<Item = (&Record, u64)> {
    records.iter().zip(0..).map(move |(record, n)| (record, place.wrapping_add(n)))
}

/// How many records are written at the front of these, of which the first has this place.
#[inline(never)]
#[must_use]
pub fn written(records: &[Record], place: u64) -> usize {
    let unwritten = placed(records, place).position(|(record, place)| ahead(record, place) < 0);
    unwritten.unwrap_or(records.len())
}

/// How many records at the front of these, of which the first has this place, are their places' own.
#[inline(never)]
#[must_use]
pub fn own(records: &[Record], place: u64) -> usize {
    let other = placed(records, place).position(|(record, place)| ahead(record, place) != 0);
    other.unwrap_or(records.len())
}

/// How many records are of this kind.
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
    fn sequences_say_whose_record_it_is() {
        let at = |sequence, place| ahead(&record(sequence, Kind::Tick), place);
        assert_eq!((at(8, 7), at(7, 7), at(0, 7), at(8 + 64, 7)), (0, -1, -8, 64));
        // The low half of the number wraps around.
        assert_eq!((at(0, (1 << 32) - 1), at(1, 1 << 32), at(u32::MAX, 1 << 32)), (0, 0, -2));
    }

    #[test]
    fn what_is_written_and_whose_it_is_ends_at_the_first_that_is_not() {
        let records = [4, 5, 70, 7, 0, 9].map(|sequence| record(sequence, Kind::Tick));
        assert_eq!((written(&records, 3), own(&records, 3)), (4, 2));
        assert_eq!((written(&records[..2], 3), own(&records[..2], 3)), (2, 2));
        assert_eq!((written(&records, 4), own(&[], 3)), (0, 0));
        // A head that is nonsense: sequences behind the last place begin at 0 again.
        let last = [0, 1].map(|sequence| record(sequence, Kind::Tick));
        assert_eq!((written(&last, u64::MAX), own(&last, u64::MAX)), (2, 2));
    }

    #[test]
    fn kinds_are_counted() {
        let records = [Kind::Tick, Kind::User, Kind::Tick].map(|kind| record(1, kind));
        assert_eq!((count(&records, Kind::Tick), count(&records, Kind::Nmi)), (2, 0));
    }
}
