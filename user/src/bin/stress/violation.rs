//! Violations: results or registers that differ from their expected values.

use core::fmt;

use crate::model::Expected;

/// A register that does not hold the expected value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The register's name.
    pub register: &'static str,
    /// The expected value.
    pub expected: u64,
    /// The actual value.
    pub got: u64,
}

/// The first difference found.
#[derive(Clone, Copy, Debug)]
pub struct Violation {
    /// The index of the call among this copy's system calls, counted from 1.
    pub call: u64,
    /// The system-call number, in rax.
    pub number: u64,
    /// The value that differs.
    pub what: What,
}

/// The value that differs.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// The call's result.
    Result {
        /// The correct results.
        expected: Expected,
        /// The value in rax.
        got: u64,
    },
    /// A general register or the flags after the call.
    Register(Difference),
    /// A vector register or MXCSR. One of this many calls since the last comparison changed it.
    Vector(Difference, u64),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call={} number={:#x}: expected ", self.call, self.number)?;
        match self.what {
            What::Result { expected, got } => write!(f, "result {expected} got {got:#x}"),
            What::Register(Difference { register, expected, got }) => {
                write!(f, "{register} {expected:#x} got {got:#x}")
            }
            What::Vector(Difference { register, expected, got }, calls) => {
                write!(f, "{register} {expected:#x} got {got:#x}, by one of the last {calls} calls")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_call_and_difference() {
        let difference = Difference { register: "rbx", expected: 1, got: 0x10 };
        for (number, what, text) in [
            (
                2,
                What::Result { expected: Expected::AtLeast(9), got: 8 },
                "call=7 number=0x2: expected result 0x9 or more got 0x8",
            ),
            (
                1 << 63,
                What::Register(difference),
                "call=7 number=0x8000000000000000: expected rbx 0x1 got 0x10",
            ),
            (
                0,
                What::Vector(difference, 16),
                "call=7 number=0x0: expected rbx 0x1 got 0x10, by one of the last 16 calls",
            ),
        ] {
            assert_eq!(Violation { call: 7, number, what }.to_string(), text);
        }
    }
}
