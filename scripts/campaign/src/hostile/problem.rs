//! What can be wrong with a run, each a sentence that names the CPU.

use std::fmt;

use machine::console::printable;

use crate::stress::seeds::Seed;

/// Something that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A copy of the program found it: its words.
    Unexpected { cpu: u32, text: String },
    /// A line that neither the kernel nor the program writes.
    Stray { cpu: Option<u32>, line: Vec<u8> },
    /// Ring 3 made ring 0 go in single steps: the kernel's words.
    Stepped { cpu: u32, text: String },
    /// A sign of life of another round than the one that has to come.
    Round { cpu: u32, expected: u64, got: u64 },
    /// The others went on without it.
    Silent { cpu: u32, seconds: u64 },
    /// The last copy exited without its last words.
    NotDone { cpu: u32 },
    /// So many there are, and so many there have to be.
    Count { cpu: u32, what: &'static str, expected: u64, got: u64 },
    /// The program ran with another seed.
    OtherSeed { cpu: u32, got: Seed },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unexpected { cpu, text } => {
                write!(f, "CPU {cpu}: unexpected: {}", printable(text.as_bytes()))
            }
            Problem::Stray { cpu: Some(cpu), line } => {
                write!(f, "CPU {cpu}: nobody writes such a line: \"{}\"", printable(line))
            }
            Problem::Stray { cpu: None, line } => {
                write!(f, "nobody writes such a line: \"{}\"", printable(line))
            }
            Problem::Stepped { cpu, text } => write!(f, "CPU {cpu}: {}", printable(text.as_bytes())),
            Problem::Round { cpu, expected, got } => {
                write!(f, "CPU {cpu}: round {got} came, and it was the turn of round {expected}")
            }
            Problem::Silent { cpu, seconds } => {
                write!(f, "CPU {cpu}: nothing was heard of it for {seconds} s, while the others went on")
            }
            Problem::NotDone { cpu } => write!(f, "CPU {cpu}: the last words of its last copy did not come"),
            Problem::Count { cpu, what, expected, got } => {
                write!(f, "CPU {cpu}: {got} {what}, and there have to be {expected}")
            }
            Problem::OtherSeed { cpu, got } => write!(f, "CPU {cpu}: the program ran with the seed {got}"),
        }
    }
}
