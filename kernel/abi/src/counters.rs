//! Counters of each CPU, where the host finds them in the memory of a guest that runs.
//!
//! ```text
//!   Directory          at the start of a page; found by its magic
//!   address 0          u64, physical: the Counters of CPU 0
//!   address 1          and so on: one a CPU that is online, by dense index
//! ```
//!
//! They are the very words that the kernel counts in, each written by its CPU alone: nothing is copied, and the way of
//! a system call has no instruction for it. A word is read whole, since it is aligned; several words are not of one
//! instant.

use core::mem::{offset_of, size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::syscall::TABLE_LEN;

/// The first bytes of the directory's page.
pub const MAGIC: [u8; 16] = *b"ringside-counts\x01";

/// Classes of [`Counters::deviations`].
pub const CLASSES: usize = 64;

/// What a CPU counts. `W` is a word: a `Cell` for the CPU, a number for the host.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters<W> {
    /// System calls so far, by number; the last counts the numbers beyond the table.
    pub calls: [W; TABLE_LEN + 1],
    /// Timer ticks so far.
    pub ticks: W,
    /// Ticks by how far their distance from the tick before was from the period, in ticks of the TSC. Class n counts
    /// what takes n bits to write: 2^(n-1) and more, below 2^n.
    pub deviations: [W; CLASSES],
}

/// The class that a deviation counts in.
#[must_use]
pub const fn class(deviation: u64) -> usize {
    let bits = (u64::BITS - deviation.leading_zeros()) as usize;
    if bits < CLASSES { bits } else { CLASSES - 1 }
}

/// Where the counters are. The physical addresses of [`Counters`], a u64 each, follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Directory {
    /// [`MAGIC`], written last.
    pub magic: [u8; 16],
    /// How many addresses follow.
    pub cpus: u32,
    /// Ticks a second.
    pub tick_hz: u32,
    /// Frequency of the TSC in hertz.
    pub tsc_hz: u64,
}

const _: () = {
    assert!(
        size_of::<Counters<u64>>() == 8 * (TABLE_LEN + 1 + 1 + CLASSES),
        "words only, without padding between"
    );
    assert!(offset_of!(Counters<u64>, ticks) == 8 * (TABLE_LEN + 1), "calls come first, then ticks");
    assert!(size_of::<Directory>() == 32, "the addresses begin 32 bytes into the page");
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_number_of_bits() {
        let classes = [0, 1, 2, 3, 4, 1023, 1024, u64::MAX].map(class);
        assert_eq!(classes, [0, 1, 2, 2, 3, 10, 11, 63]);
    }
}
