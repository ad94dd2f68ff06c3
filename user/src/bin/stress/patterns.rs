//! Register contents: windows into a table of random words. Each call uses a newly selected window.

use rand_xoshiro::Xoroshiro128PlusPlus;
use rand_xoshiro::rand_core::Rng;

/// Contents of the registers at a system call, except rax and rsp.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the fields are named after the registers")]
pub struct RegisterValues {
    pub rbx: u64,
    pub rbp: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdx: u64,
    pub r10: u64,
    pub r8: u64,
    pub r9: u64,
    /// Not preserved by the call.
    pub rcx: u64,
    /// Not preserved by the call.
    pub r11: u64,
    /// Only for calls without arguments.
    pub rdi: u64,
    /// Only for calls without arguments.
    pub rsi: u64,
}

/// Contents of the vector registers, xmm0 first. Each register has its low half first.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vectors(pub [[u64; 2]; 16]);

/// Number of bits of a random number that select the window.
const WINDOW_BITS: u32 = 9;
/// Number of words at which a window can start.
const STARTS: usize = 1 << WINDOW_BITS;
/// Length of the longest window, in words.
const LONGEST: usize = size_of::<Vectors>() / size_of::<u64>();

const _: () =
    assert!(size_of::<RegisterValues>() <= size_of::<Vectors>(), "every window must end within the table");

/// Carry, parity, adjust, zero, sign, direction, overflow.
const FLAGS: u64 = 0xcd5;
/// IF and bit 1, which is always set.
const FIXED_FLAGS: u64 = 0x202;

/// MXCSR bits that vary (SDM 1, 10.2.3): the six sticky exception flags, rounding control, and flush-to-zero.
const MXCSR_FLAGS: u32 = 0xe03f;
/// The exception mask bits, all set.
const MXCSR_FIXED: u32 = 0x1f80;

/// The table of random words. Each CPU has a different table.
#[repr(C, align(16))]
pub struct Patterns {
    words: [u64; STARTS + LONGEST],
}

impl Patterns {
    /// Fills the table.
    pub fn new(random: &mut Xoroshiro128PlusPlus) -> Patterns {
        let mut words = [0; STARTS + LONGEST];
        words.fill_with(|| random.next_u64());
        Patterns { words }
    }

    /// Returns the register contents selected by bits 12 to 20 of a random number.
    #[inline]
    pub fn registers(&self, random: u64) -> &RegisterValues {
        // SAFETY: `place` is below STARTS, and the table has LONGEST words after the last start, so the entire window
        // is inside the table. RegisterValues consists of words, for which every value is valid.
        unsafe { &*self.from(place(random)).cast() }
    }

    /// Returns the vector register contents selected by the same bits.
    #[inline]
    pub fn vectors(&self, random: u64) -> &Vectors {
        // SAFETY: the window is inside the table, as in `registers`. The table has the alignment of Vectors, and an
        // even place preserves it.
        unsafe { &*self.from(place(random) & !1).cast() }
    }

    /// Returns a pointer into the table. It does not index the table, as a pointer made from an element would be valid
    /// for that word only.
    #[inline]
    fn from(&self, place: usize) -> *const u64 {
        self.words.as_ptr().wrapping_add(place)
    }
}

/// Returns the index in the table at which a window starts.
#[inline]
fn place(random: u64) -> usize {
    (random >> 12) as usize % STARTS
}

/// Returns the flags selected by bits 0 to 11 of a random number, together with the fixed ones.
#[inline]
pub fn flags(random: u64) -> u64 {
    random & FLAGS | FIXED_FLAGS
}

/// Returns the MXCSR value selected by bits 32 to 47 of a random number.
#[inline]
pub fn mxcsr(random: u64) -> u32 {
    (random >> 32) as u32 & MXCSR_FLAGS | MXCSR_FIXED
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn every_window_is_inside_the_table() {
        let patterns = Patterns::new(&mut Xoroshiro128PlusPlus::seed_from_u64(1));
        let words = patterns.words;
        for start in [0, 1, STARTS - 1] {
            let random = (start as u64) << 12 | !0 << 21 | 0xfff;
            let window = patterns.registers(random);
            assert_eq!((window.rbx, window.rsi), (words[start], words[start + 13]));
            let vectors = patterns.vectors(random);
            let even = start & !1;
            assert_eq!(vectors.0.as_flattened(), &words[even..even + LONGEST]);
        }
    }

    #[test]
    fn only_permitted_flags_vary() {
        assert_eq!((flags(0), flags(u64::MAX)), (0x202, 0xed7));
        assert_eq!((mxcsr(0), mxcsr(u64::MAX)), (0x1f80, 0xffbf));
    }
}
