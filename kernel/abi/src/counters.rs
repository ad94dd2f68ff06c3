//! Per-CPU counters, which the host can read from the memory of a running guest.
//!
//! ```text
//!   Directory          at the start of a page; the host finds it by its magic
//!   address 0          u64, physical: the Counters of CPU 0
//!   address 1          and so on: one per online CPU, by dense index
//! ```
//!
//! At a fixed distance from a CPU's counters lies the [`LineState`] of its program.
//!
//! The host reads the same words in which the kernel counts. Only the owning CPU writes them; nothing is copied, so the
//! system-call path needs no extra instruction. Each word is aligned, so reading one word is atomic. Reading several
//! words is not a consistent snapshot.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::syscall::TABLE_LEN;

/// The first bytes of the directory's page.
pub const MAGIC: [u8; 16] = *b"ringside-counts\x02";

/// The number of classes in [`Counters::deviations`].
pub const CLASSES: usize = 64;

/// The counters of a CPU. `W` is the type of a word: a `Cell` for the CPU, a number for the host.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Counters<W> {
    /// The number of system calls so far, by system-call number. The last element counts calls with a number beyond the
    /// table.
    pub calls: [W; TABLE_LEN + 1],
    /// The number of timer ticks so far.
    pub ticks: W,
    /// Histogram of tick jitter. The deviation of a tick is the absolute difference, in TSC ticks, between its distance
    /// to the previous tick and the nominal period. Class n counts deviations of n bits: from 2^(n-1) up to, but not
    /// including, 2^n.
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

/// Returns the class that counts a deviation.
#[must_use]
pub const fn class(deviation: u64) -> usize {
    // The logarithm of 2n + 1 is the number of bits of n, and needs no test for 0: every tick computes it.
    let deviation = if deviation < 1 << 63 { deviation } else { (1 << 63) - 1 };
    (2 * deviation + 1).ilog2() as usize
}

/// The header of the directory. The physical addresses of the [`Counters`], a u64 each, follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Directory {
    /// [`MAGIC`], written last.
    pub magic: [u8; 16],
    /// The number of addresses that follow.
    pub cpus: u32,
    /// Ticks per second.
    pub tick_hz: u32,
    /// Frequency of the TSC in hertz.
    pub tsc_hz: u64,
    /// The address of a CPU's [`LineState`], relative to the address of its counters. Wraps around.
    pub line: u64,
}

/// The longest line of a program's output that is not split, in bytes.
pub const LINE_MAX: usize = 512;

/// Text that a program has written without a trailing newline. The kernel prints complete lines only, so this text
/// appears nowhere else.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct LineState {
    /// The number of bytes in use.
    pub length: u64,
    /// The text so far.
    pub bytes: [u8; LINE_MAX],
}

const _: () = {
    assert!(size_of::<Counters<u64>>() == 8 * WORDS, "the counters must consist of words, without padding");
    assert!(offset_of!(Counters<u64>, ticks) == 8 * (TABLE_LEN + 1), "the ticks must follow the calls");
    assert!(size_of::<Directory>() == 40, "the addresses must start 40 bytes into the page");
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_is_the_number_of_bits() {
        let deviations = [0, 1, 2, 3, 4, 1023, 1024, (1 << 63) - 1, 1 << 63, u64::MAX];
        assert_eq!(deviations.map(class), [0, 1, 2, 2, 3, 10, 11, 63, 63, 63]);
        for bits in 0..CLASSES as u32 {
            assert_eq!(class((1_u64 << bits) - 1), bits as usize);
        }
    }
}
