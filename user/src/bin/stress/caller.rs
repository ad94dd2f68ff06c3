//! Makes the system calls: counts each call and checks all registers and the result.

use kernel_abi::syscall::{SYS_GET_CPU, SYS_WRITE_SERIAL, TABLE_LEN};
use rand_xoshiro::Xoroshiro128PlusPlus;
use rand_xoshiro::rand_core::Rng;

use crate::model::{Call, Model};
use crate::patterns::{self, Patterns, RegisterValues};
use crate::violation::{Violation, What};
use crate::{stub, vectors};

/// Number of calls made per system-call number. The last entry counts numbers beyond the table.
pub type Counts = [u64; TABLE_LEN + 1];

/// Number of calls between two comparisons of the vector registers.
const VECTORS_EVERY: u64 = 16;

/// The reason why the load ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A register or a result differs from its expected value; see [`Caller::violation`].
    Violation,
    /// The other copies did not arrive in time.
    RendezvousTimeout,
}

/// Makes this copy's system calls.
pub struct Caller {
    patterns: Patterns,
    model: Model,
    counts: Counts,
    /// Sum of the counts.
    calls: u64,
    /// The random number that selected the current contents of the vector registers.
    vectors: u64,
    violation: Option<Violation>,
}

impl Caller {
    /// Creates a caller with one call already counted: the `SYS_GET_CPU` whose result selects this CPU's random stream.
    pub fn new(random: &mut Xoroshiro128PlusPlus) -> Caller {
        let mut counts = [0; TABLE_LEN + 1];
        counts[SYS_GET_CPU as usize] = 1;
        let patterns = Patterns::new(random);
        let vectors = random.next_u64();
        fill_vectors(&patterns, vectors);
        Caller { patterns, model: Model::default(), counts, calls: 1, vectors, violation: None }
    }

    /// Returns how many calls were made, per system-call number.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the first violation, if any.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Returns the register contents selected by a random number, for calls without arguments.
    #[inline]
    pub fn registers(&self, random: u64) -> &RegisterValues {
        self.patterns.registers(random)
    }

    /// Makes a call other than `SYS_EXIT`. `random` selects the contents of the other registers and the flags.
    ///
    /// # Errors
    /// [`Stop::Violation`] if a register or the result is not as expected.
    #[inline(always)]
    pub fn call(&mut self, random: u64, call: &Call) -> Result<u64, Stop> {
        let (rax, good) = self.call_checked(random, call.number, call.first, call.second);
        if !good {
            return Err(Stop::Violation);
        }
        match self.model.check(call.expected, rax) {
            Ok(()) => Ok(rax),
            Err(expected) => Err(self.report(call.number, What::Result { expected, got: rax })),
        }
    }

    /// Writes bytes of the final report. From here on, register differences and partially accepted writes no longer
    /// count as violations.
    #[cold]
    pub fn write_at_last(&mut self, random: &mut Xoroshiro128PlusPlus, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (rax, _) = self.call_checked(
                random.next_u64(),
                SYS_WRITE_SERIAL,
                bytes.as_ptr() as u64,
                bytes.len() as u64,
            );
            match usize::try_from(rax).ok().and_then(|accepted| bytes.get(accepted..)) {
                Some(rest) if rest.len() < bytes.len() => bytes = rest,
                _ => return,
            }
        }
    }

    /// Compares the vector registers for the last time. `number` is the number of the last call.
    ///
    /// # Errors
    /// [`Stop::Violation`] if a vector register differs.
    pub fn finish(&mut self, number: u64) -> Result<(), Stop> {
        if self.vectors_kept(self.vectors, number) { Ok(()) } else { Err(Stop::Violation) }
    }

    /// Makes a call. Returns rax, and whether every compared register has its expected value.
    #[inline(always)]
    fn call_checked(&mut self, random: u64, number: u64, first: u64, second: u64) -> (u64, bool) {
        self.calls = self.calls.wrapping_add(1);
        let count = &mut self.counts[number.min(TABLE_LEN as u64) as usize];
        *count = count.wrapping_add(1);
        let values = self.patterns.registers(random);
        // SAFETY: no call writes memory, and SYS_EXIT, which does not return, is never made through this function.
        // `flags` varies only the arithmetic flags and DF.
        let (rax, difference) = unsafe { stub::call(number, first, second, patterns::flags(random), values) };
        if let Some(difference) = difference {
            self.report(number, What::Register(difference));
            return (rax, false);
        }
        (rax, !self.calls.is_multiple_of(VECTORS_EVERY) || self.vectors_kept(random, number))
    }

    /// Compares the vector registers and loads new contents.
    #[inline(never)]
    fn vectors_kept(&mut self, random: u64, number: u64) -> bool {
        let last = core::mem::replace(&mut self.vectors, random);
        let difference = vectors::first_difference(self.patterns.vectors(last), patterns::mxcsr(last));
        fill_vectors(&self.patterns, random);
        if let Some(difference) = difference {
            self.report(number, What::Vector(difference, VECTORS_EVERY));
        }
        difference.is_none()
    }

    /// Records only the first violation, because later ones may be its consequences.
    #[cold]
    fn report(&mut self, number: u64, what: What) -> Stop {
        let violation = Violation { call: self.calls, number, what };
        self.violation.get_or_insert(violation);
        Stop::Violation
    }
}

fn fill_vectors(patterns: &Patterns, random: u64) {
    // SAFETY: MXCSR has all exceptions masked, and no code of this program uses floating point.
    unsafe { vectors::load(patterns.vectors(random), &patterns::mxcsr(random)) };
}
