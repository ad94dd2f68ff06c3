//! The model of the results that a system call may return.

use core::fmt;

use kernel_abi::syscall::WRITE_SERIAL_MAX;

/// A system call with two arguments and its possible results. It writes no memory of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The system-call number, in rax.
    pub number: u64,
    /// The first argument, in rdi.
    pub first: u64,
    /// The second argument, in rsi.
    pub second: u64,
    /// The possible values of rax after the call.
    pub expected: ExpectedResult,
}

/// The possible results of a call, before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedResult {
    /// This value.
    Exactly(u64),
    /// This value or a greater one, but no error.
    AtLeast(u64),
    /// This CPU's tick count, which never decreases.
    Ticks,
    /// The clock, which never goes back.
    Clock,
    /// The number of bytes accepted out of this many readable bytes: at least 1, and at most the limit of one call.
    Written(usize),
}

/// The correct results, as a violation message shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This value.
    Exactly(u64),
    /// This value or a greater one.
    AtLeast(u64),
    /// Any value from 1 to this value.
    UpTo(u64),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Exactly(value) => write!(f, "{value:#x}"),
            Expected::AtLeast(value) => write!(f, "{value:#x} or more"),
            Expected::UpTo(value) => write!(f, "0x1 to {value:#x}"),
        }
    }
}

/// The bounds that earlier results imply for later ones.
#[derive(Clone, Debug, Default)]
pub struct Model {
    ticks: u64,
    clock: u64,
}

impl Model {
    /// Checks a result and remembers it for comparison with later ones.
    ///
    /// # Errors
    /// The correct results, if this result is not one of them.
    #[inline]
    pub fn check(&mut self, expected: ExpectedResult, rax: u64) -> Result<(), Expected> {
        let (right, expected) = match expected {
            ExpectedResult::Exactly(value) => (rax == value, Expected::Exactly(value)),
            ExpectedResult::AtLeast(least) => (at_least(least, rax), Expected::AtLeast(least)),
            ExpectedResult::Ticks => grown(&mut self.ticks, rax),
            ExpectedResult::Clock => grown(&mut self.clock, rax),
            ExpectedResult::Written(offered) => {
                let most = offered.min(WRITE_SERIAL_MAX) as u64;
                ((1..=most).contains(&rax), Expected::UpTo(most))
            }
        };
        if right { Ok(()) } else { Err(expected) }
    }
}

#[inline]
fn grown(last: &mut u64, now: u64) -> (bool, Expected) {
    let (right, expected) = (at_least(*last, now), Expected::AtLeast(*last));
    if right {
        *last = now;
    }
    (right, expected)
}

/// Returns whether rax is at least `least`. A negative value is an error code; no count or time becomes that large.
#[inline]
fn at_least(least: u64, rax: u64) -> bool {
    rax >= least && rax.cast_signed() >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_values_match_exactly() {
        let mut model = Model::default();
        assert_eq!(model.check(ExpectedResult::Exactly(7), 7), Ok(()));
        assert_eq!(model.check(ExpectedResult::Exactly(7), 8), Err(Expected::Exactly(7)));
    }

    #[test]
    fn at_least_rejects_smaller_values_and_errors() {
        for (rax, right) in [(7, true), (8, true), (6, false), (u64::MAX, false)] {
            assert_eq!(Model::default().check(ExpectedResult::AtLeast(7), rax).is_ok(), right, "{rax}");
        }
    }

    #[test]
    fn ticks_and_clock_never_go_back_and_are_independent() {
        let mut model = Model::default();
        for ticks in [0, 3, 3, 4] {
            assert_eq!(model.check(ExpectedResult::Ticks, ticks), Ok(()));
        }
        assert_eq!(model.check(ExpectedResult::Clock, 1), Ok(()));
        assert_eq!(model.check(ExpectedResult::Ticks, 3), Err(Expected::AtLeast(4)));
        assert_eq!(model.check(ExpectedResult::Ticks, 4), Ok(()), "a wrong value must not be remembered");
        assert_eq!(model.check(ExpectedResult::Clock, 0), Err(Expected::AtLeast(1)));
        assert_eq!(model.check(ExpectedResult::Clock, u64::MAX - 13), Err(Expected::AtLeast(1)));
    }

    #[test]
    fn accepted_bytes_are_bounded() {
        let mut model = Model::default();
        for (offered, rax, right) in
            [(5, 1, true), (5, 5, true), (5, 0, false), (5, 6, false), (300, 256, true), (300, 257, false)]
        {
            assert_eq!(
                model.check(ExpectedResult::Written(offered), rax).is_ok(),
                right,
                "{rax} of {offered}"
            );
        }
    }
}
