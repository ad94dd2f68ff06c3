//! The values with which registers are filled: windows into a table of random words, a different one for each call.

use rand_xoshiro::Xoroshiro128PlusPlus;
use rand_xoshiro::rand_core::Rng;

/// What the registers that carry no argument hold at a system call.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the registers are their own names")]
pub struct Window {
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
    /// Does not come back.
    pub rcx: u64,
    /// Does not come back.
    pub r11: u64,
    /// For calls without arguments.
    pub rdi: u64,
    /// For calls without arguments.
    pub rsi: u64,
}

/// What the vector registers hold for some calls: xmm0 first, of each the low half first.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vectors(pub [[u64; 2]; 16]);

/// Bits of a random number that choose the window.
const WINDOW_BITS: u32 = 9;
/// Words before which a window may start.
const STARTS: usize = 1 << WINDOW_BITS;
/// In words, of the greater kind of window.
const LONGEST: usize = size_of::<Vectors>() / size_of::<u64>();

const _: () = assert!(size_of::<Window>() <= size_of::<Vectors>(), "every window ends within the table");

/// Carry, parity, adjust, zero, sign, direction, overflow.
const FLAGS: u64 = 0xcd5;
/// Interrupts on, and the bit that is always set.
const FIXED_FLAGS: u64 = 0x202;

/// Flags of MXCSR that vary (SDM 1, 10.2.3): the six sticky ones, rounding, flush to zero.
const MXCSR_FLAGS: u32 = 0xe03f;
/// All exceptions masked.
const MXCSR_FIXED: u32 = 0x1f80;

/// The table. Each CPU's is another one.
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

    /// The registers' values that bits 12 to 20 of a random number choose.
    #[inline]
    pub fn window(&self, random: u64) -> &Window {
        // SAFETY: the place is below STARTS, so that the longest window behind it is in the table; Window is made of
        // words alone.
        unsafe { &*self.from(place(random)).cast() }
    }

    /// The vector registers' values that the same bits choose.
    #[inline]
    pub fn vectors(&self, random: u64) -> &Vectors {
        // SAFETY: as above; the table is as aligned as Vectors, and the place is even.
        unsafe { &*self.from(place(random) & !1).cast() }
    }

    /// Not by an index: a pointer from it would be good for one word only.
    #[inline]
    fn from(&self, place: usize) -> *const u64 {
        self.words.as_ptr().wrapping_add(place)
    }
}

/// Where in the table a window starts.
#[inline]
fn place(random: u64) -> usize {
    (random >> 12) as usize % STARTS
}

/// The flags that bits 0 to 11 of a random number choose, as they are in force then.
#[inline]
pub fn flags(random: u64) -> u64 {
    random & FLAGS | FIXED_FLAGS
}

/// The MXCSR that bits 32 to 47 of a random number choose.
#[inline]
pub fn mxcsr(random: u64) -> u32 {
    (random >> 32) as u32 & MXCSR_FLAGS | MXCSR_FIXED
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn every_window_lies_in_the_table() {
        let patterns = Patterns::new(&mut Xoroshiro128PlusPlus::seed_from_u64(1));
        let words = patterns.words;
        for start in [0, 1, STARTS - 1] {
            let random = (start as u64) << 12 | !0 << 21 | 0xfff;
            let window = patterns.window(random);
            assert_eq!((window.rbx, window.rsi), (words[start], words[start + 13]));
            let vectors = patterns.vectors(random);
            let even = start & !1;
            assert_eq!(vectors.0.as_flattened(), &words[even..even + LONGEST]);
        }
    }

    #[test]
    fn flags_that_no_program_can_have_are_never_asked_for() {
        assert_eq!((flags(0), flags(u64::MAX)), (0x202, 0xed7));
        assert_eq!((mxcsr(0), mxcsr(u64::MAX)), (0x1f80, 0xffbf));
    }
}
