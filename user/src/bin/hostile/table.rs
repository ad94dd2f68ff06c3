//! Tables of probes: groups of rows, each made from its number.

use crate::maker::Maker;
use crate::probe::Probe;

/// Some rows of a table.
pub struct Group {
    /// How many.
    pub rows: u64,
    /// Makes one of them.
    pub make: fn(&mut Maker, u64) -> Probe,
}

/// How many rows the groups have together.
pub const fn rows(groups: &[Group]) -> u64 {
    let (mut sum, mut index) = (0, 0);
    while index < groups.len() {
        sum += groups[index].rows;
        index += 1;
    }
    sum
}

/// The probe at a place below [`rows`].
pub fn make(groups: &[Group], maker: &mut Maker, mut place: u64) -> Probe {
    for group in groups {
        if place < group.rows {
            return (group.make)(maker, place);
        }
        place -= group.rows;
    }
    panic!("a place beyond the table's end")
}
