//! Tables of probes. A table consists of groups, and each group constructs its rows by number.

use crate::maker::Maker;
use crate::probe::Probe;

/// A group of rows.
pub struct Group {
    /// The number of rows.
    pub rows: u64,
    /// Constructs the probe of one row.
    pub make: fn(&mut Maker, u64) -> Probe,
}

/// Returns the total number of rows in all groups.
pub const fn rows(groups: &[Group]) -> u64 {
    let (mut sum, mut index) = (0, 0);
    while index < groups.len() {
        sum += groups[index].rows;
        index += 1;
    }
    sum
}

/// Constructs the probe of a row. `place` must be below [`rows`].
pub fn make(groups: &[Group], maker: &mut Maker, mut place: u64) -> Probe {
    for group in groups {
        if place < group.rows {
            return (group.make)(maker, place);
        }
        place -= group.rows;
    }
    panic!("row beyond the end of the table")
}
