//! Counters of each CPU, which the host can read in the memory of a running guest.
//!
//! ```text
//!   Directory          at the start of a page; found by its magic
//!   address 0          u64, physical: the Counters of CPU 0
//!   address 1          and so on: one per online CPU, by dense index
//! ```
//!
//! They are the words in which the kernel counts, each written by its CPU only: nothing is copied, and the system-call
//! path has no instruction for it. A word is aligned, so a read of it is atomic; several words are not read at one
//! instant.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::syscall::TABLE_LEN;

/// The first bytes of the directory's page.
pub const MAGIC: [u8; 16] = *b"ringside-counts\x01";

/// Classes of [`Counters::deviations`].
pub const CLASSES: usize = 64;

/// The counters of a CPU. `W` is a word: a `Cell` for the CPU, a number for the host.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Counters<W> {
    /// System calls so far, by number; the last element counts the numbers beyond the table.
    pub calls: [W; TABLE_LEN + 1],
    /// Timer ticks so far.
    pub ticks: W,
    /// Ticks by the deviation of their distance to the previous tick from the period, in TSC ticks. Class n counts
    /// deviations of n bits: from 2^(n-1) up to, but not including, 2^n.
    pub deviations: [W; CLASSES],
}

/// Words in [`Counters`].
pub const WORDS: usize = TABLE_LEN + 1 + 1 + CLASSES;

impl Counters<u64> {
    /// Returns the counters that are stored in memory as these words.
    #[must_use]
    pub fn from_words(words: &[u64; WORDS]) -> Counters<u64> {
        let (calls, rest) = words.split_first_chunk().expect("WORDS counts the calls");
        let (ticks, deviations) = rest.split_first_chunk::<1>().expect("WORDS counts the ticks");
        Counters {
            calls: *calls,
            ticks: ticks[0],
            deviations: deviations.try_into().expect("WORDS counts the classes"),
        }
    }
}

/// Returns the class in which a deviation is counted.
#[must_use]
pub const fn class(deviation: u64) -> usize {
    let bits = (u64::BITS - deviation.leading_zeros()) as usize;
    if bits < CLASSES { bits } else { CLASSES - 1 }
}

/// The start of the directory. The physical addresses of the [`Counters`], a u64 each, follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Directory {
    /// [`MAGIC`], written last.
    pub magic: [u8; 16],
    /// The number of addresses that follow.
    pub cpus: u32,
    /// Ticks a second.
    pub tick_hz: u32,
    /// Frequency of the TSC in hertz.
    pub tsc_hz: u64,
}

const _: () = {
    assert!(size_of::<Counters<u64>>() == 8 * WORDS, "words only, without padding");
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
