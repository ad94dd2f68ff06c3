//! Problems found in a run. Each message names the CPU.

use std::fmt;

use output::printable;

use crate::stress::seeds::Seed;

/// A deviation from the specified behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The program reported an unexpected outcome with this text.
    Unexpected { cpu: u32, text: String },
    /// A line that neither the kernel nor the program writes.
    UnknownLine { cpu: Option<u32>, line: Vec<u8> },
    /// Single-stepping in ring 3 raised a #DB in ring 0. The text is the kernel's message.
    Ring0Step { cpu: u32, text: String },
    /// A progress line names the wrong round.
    Round { cpu: u32, expected: u64, got: u64 },
    /// The CPU printed nothing for too long while other CPUs printed.
    Silent { cpu: u32, seconds: u64 },
    /// The last copy of the program exited without printing its summary.
    NoSummary { cpu: u32 },
    /// A count differs from the expected one.
    Count { cpu: u32, what: &'static str, expected: u64, got: u64 },
    /// The program ran with another seed.
    WrongSeed { cpu: u32, got: Seed },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unexpected { cpu, text } => {
                write!(f, "CPU {cpu}: unexpected: {}", printable(text.as_bytes()))
            }
            Problem::UnknownLine { cpu: Some(cpu), line } => {
                write!(f, "CPU {cpu}: unknown line: \"{}\"", printable(line))
            }
            Problem::UnknownLine { cpu: None, line } => {
                write!(f, "unknown line: \"{}\"", printable(line))
            }
            Problem::Ring0Step { cpu, text } => write!(f, "CPU {cpu}: {}", printable(text.as_bytes())),
            Problem::Round { cpu, expected, got } => {
                write!(f, "CPU {cpu}: progress line of round {got}, expected round {expected}")
            }
            Problem::Silent { cpu, seconds } => {
                write!(f, "CPU {cpu}: no output for {seconds} s while other CPUs printed")
            }
            Problem::NoSummary { cpu } => {
                write!(f, "CPU {cpu}: the last copy of the program printed no summary")
            }
            Problem::Count { cpu, what, expected, got } => {
                write!(f, "CPU {cpu}: {got} {what}, expected {expected}")
            }
            Problem::WrongSeed { cpu, got } => {
                write!(f, "CPU {cpu}: the program ran with another seed, {got}")
            }
        }
    }
}
