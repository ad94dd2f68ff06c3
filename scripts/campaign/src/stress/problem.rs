//! Problems found in a boot. Each message names the CPU.

use std::fmt;

use kernel_abi::syscall::{Call, TABLE_LEN};
use output::count;
use output::printable;

use super::seeds::Seed;

/// A deviation from the expected behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The program reported a violation with this text.
    Violation { cpu: u32, text: String },
    /// A numbered line differs from the expected one.
    Line { cpu: u32, number: u64, expected: String, got: Vec<u8> },
    /// The number of further wrong lines, which are only counted.
    MoreLines { cpu: u32, count: u64 },
    /// A line that neither the kernel nor the program writes.
    UnknownLine { cpu: Option<u32>, line: Vec<u8> },
    /// The program printed a message about invalid arguments, or a garbled last line.
    ProgramMessage { cpu: u32, text: String },
    /// The program exited without its last line.
    NoLastLine { cpu: u32 },
    /// The program's last line was received twice.
    TwoLastLines { cpu: u32 },
    /// The program ran with another seed.
    WrongSeed { cpu: u32, got: Seed },
    /// The program made more or fewer calls from the mix than `--calls`.
    WrongCalls { cpu: u32, expected: u64, got: u64 },
    /// The number of received lines differs from the number that the program wrote.
    LinesLost { cpu: u32, written: u64, received: u64 },
    /// The kernel did not print this CPU's counters exactly once.
    NoCounts { cpu: u32, records: usize },
    /// The program's and the kernel's counts of a system call differ. All numbers beyond the system-call table are
    /// counted together.
    Count { cpu: u32, number: usize, program: u64, kernel: u64 },
    /// The kernel's counters do not add up to its total.
    Sum { cpu: u32, sum: u64, total: u64 },
    /// An error of the run: a panic, a timeout, or a program that did not exit with code 0.
    Run(String),
}

impl Problem {
    /// Returns the affected CPU, or `None` if the problem does not concern one CPU.
    pub fn cpu(&self) -> Option<u32> {
        match self {
            Problem::Violation { cpu, .. }
            | Problem::Line { cpu, .. }
            | Problem::MoreLines { cpu, .. }
            | Problem::ProgramMessage { cpu, .. }
            | Problem::NoLastLine { cpu }
            | Problem::TwoLastLines { cpu }
            | Problem::WrongSeed { cpu, .. }
            | Problem::WrongCalls { cpu, .. }
            | Problem::LinesLost { cpu, .. }
            | Problem::NoCounts { cpu, .. }
            | Problem::Count { cpu, .. }
            | Problem::Sum { cpu, .. } => Some(*cpu),
            Problem::UnknownLine { cpu, .. } => *cpu,
            Problem::Run(_) => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cpu) = self.cpu() {
            write!(f, "CPU {cpu}: ")?;
        }
        match self {
            Problem::Violation { text, .. } => write!(f, "violation: {}", printable(text.as_bytes())),
            Problem::Line { number, expected, got, .. } => {
                let same = expected.bytes().zip(got).take_while(|(a, b)| a == *b).count();
                let got = printable(got);
                write!(f, "line {number}: expected {expected:?}, got \"{got}\": byte {same} differs")
            }
            Problem::MoreLines { count: more, .. } => {
                write!(f, "{} more written {} wrong", more, if *more == 1 { "line is" } else { "lines are" })
            }
            Problem::UnknownLine { line, .. } => write!(f, "unknown line: \"{}\"", printable(line)),
            Problem::ProgramMessage { text, .. } => {
                write!(f, "the program printed {:?}", printable(text.as_bytes()))
            }
            Problem::NoLastLine { .. } => f.write_str("the program exited without its last line"),
            Problem::TwoLastLines { .. } => f.write_str("the program's last line was received twice"),
            Problem::WrongSeed { got, .. } => write!(f, "the program ran with another seed, {got}"),
            Problem::WrongCalls { expected, got, .. } => {
                write!(f, "{} from the mix, expected {expected}", count(*got, "call"))
            }
            Problem::LinesLost { written, received, .. } => {
                write!(f, "the program wrote {}, but {received} were received", count(*written, "line"))
            }
            Problem::NoCounts { records, .. } => {
                write!(
                    f,
                    "the kernel printed its counters {} instead of once",
                    count(*records as u64, "time")
                )
            }
            Problem::Count { number, program, kernel, .. } => {
                write!(
                    f,
                    "{}: the program made {}, but the kernel counted {kernel}",
                    call_name(*number),
                    count(*program, "call")
                )
            }
            Problem::Sum { sum, total, .. } => {
                write!(f, "the kernel's counters add up to {sum}, but its total is {total}")
            }
            Problem::Run(text) => f.write_str(text),
        }
    }
}

/// Returns the name and number of a system call.
pub fn call_name(number: usize) -> String {
    match Call::from_number(number as u64) {
        Some(call) => format!("{} ({number})", call.name()),
        None if number >= TABLE_LEN => format!("numbers from {} up", TABLE_LEN),
        None => format!("number {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_cpu_and_problem() {
        for (problem, text) in [
            (
                Problem::Count { cpu: 2, number: 0, program: 10, kernel: 9 },
                "CPU 2: SYS_NULL (0): the program made 10 calls, but the kernel counted 9",
            ),
            (
                Problem::Count { cpu: 0, number: TABLE_LEN, program: 1, kernel: 2 },
                "CPU 0: numbers from 16 up: the program made 1 call, but the kernel counted 2",
            ),
            (
                Problem::Line {
                    cpu: 1,
                    number: 5,
                    expected: "w 1 5 abc".to_owned(),
                    got: b"w 1 5 a\x1b".into(),
                },
                "CPU 1: line 5: expected \"w 1 5 abc\", got \"w 1 5 a\\x1b\": byte 7 differs",
            ),
            (Problem::Run("CPU 1 panicked: told to".to_owned()), "CPU 1 panicked: told to"),
        ] {
            assert_eq!(problem.to_string(), text);
        }
    }
}
