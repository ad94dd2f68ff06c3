//! What can be wrong with a boot, each a sentence that names the CPU.

use std::fmt;

use kernel_abi::syscall::{Call, TABLE_LEN};
use machine::console::printable;

use super::seeds::Seed;

/// Something that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A copy of the program found it: its words.
    Violation { cpu: u32, text: String },
    /// A written line is another than the one that has to come.
    Line { cpu: u32, number: u64, expected: String, got: Vec<u8> },
    /// More written lines are wrong than are listed.
    MoreLines { cpu: u32, count: u64 },
    /// A line that neither the kernel nor the program writes.
    Stray { cpu: Option<u32>, line: Vec<u8> },
    /// The program said something that it says only when its arguments make no sense, or its last line is garbled.
    Said { cpu: u32, text: String },
    /// The program ended without its last line.
    NoLast { cpu: u32 },
    /// The program has two last lines.
    LastTwice { cpu: u32 },
    /// The program ran with another seed.
    OtherSeed { cpu: u32, got: Seed },
    /// The program made more or fewer calls of the mix than it was told to.
    OtherCalls { cpu: u32, wanted: u64, got: u64 },
    /// The program wrote so many lines, and so many came.
    LinesLost { cpu: u32, written: u64, came: u64 },
    /// The kernel's counters of this CPU came not once.
    NoCounts { cpu: u32, records: usize },
    /// Program and kernel disagree about a system call; numbers beyond the table are one.
    Count { cpu: u32, number: usize, program: u64, kernel: u64 },
    /// The kernel's counters by number do not add up to its counter of all.
    Sum { cpu: u32, sum: u64, total: u64 },
    /// The judgement on the run: a panic, a time-out, a program that did not exit with code 0.
    Run(String),
}

impl Problem {
    /// The CPU that it is about, if it is about one.
    pub fn cpu(&self) -> Option<u32> {
        match self {
            Problem::Violation { cpu, .. }
            | Problem::Line { cpu, .. }
            | Problem::MoreLines { cpu, .. }
            | Problem::Said { cpu, .. }
            | Problem::NoLast { cpu }
            | Problem::LastTwice { cpu }
            | Problem::OtherSeed { cpu, .. }
            | Problem::OtherCalls { cpu, .. }
            | Problem::LinesLost { cpu, .. }
            | Problem::NoCounts { cpu, .. }
            | Problem::Count { cpu, .. }
            | Problem::Sum { cpu, .. } => Some(*cpu),
            Problem::Stray { cpu, .. } => *cpu,
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
                write!(f, "line {number} has to be {expected:?}, not \"{got}\": byte {same} differs")
            }
            Problem::MoreLines { count, .. } => write!(f, "{count} more written lines are wrong"),
            Problem::Stray { line, .. } => write!(f, "nobody writes such a line: \"{}\"", printable(line)),
            Problem::Said { text, .. } => write!(f, "the program says {:?}", printable(text.as_bytes())),
            Problem::NoLast { .. } => f.write_str("the program exited, but its last line did not come"),
            Problem::LastTwice { .. } => f.write_str("the program's last line came twice"),
            Problem::OtherSeed { got, .. } => write!(f, "the program ran with the seed {got}"),
            Problem::OtherCalls { wanted, got, .. } => {
                write!(f, "{got} calls of the mix were made instead of {wanted}")
            }
            Problem::LinesLost { written, came, .. } => {
                write!(f, "the program wrote {written} lines, {came} came")
            }
            Problem::NoCounts { records, .. } => {
                write!(f, "the kernel printed its counters {records} times instead of once")
            }
            Problem::Count { number, program, kernel, .. } => {
                write!(
                    f,
                    "{}: the program made {program} calls, the kernel counts {kernel}",
                    call_name(*number)
                )
            }
            Problem::Sum { sum, total, .. } => {
                write!(f, "the kernel's counters add up to {sum}, its counter of all says {total}")
            }
            Problem::Run(text) => f.write_str(text),
        }
    }
}

/// A system call for people.
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
    fn a_problem_names_the_cpu_and_what() {
        for (problem, text) in [
            (
                Problem::Count { cpu: 2, number: 0, program: 10, kernel: 9 },
                "CPU 2: SYS_NULL (0): the program made 10 calls, the kernel counts 9",
            ),
            (
                Problem::Count { cpu: 0, number: TABLE_LEN, program: 1, kernel: 2 },
                "CPU 0: numbers from 16 up: the program made 1 calls, the kernel counts 2",
            ),
            (
                Problem::Line {
                    cpu: 1,
                    number: 5,
                    expected: "w 1 5 abc".to_owned(),
                    got: b"w 1 5 a\x1b".into(),
                },
                "CPU 1: line 5 has to be \"w 1 5 abc\", not \"w 1 5 a\\x1b\": byte 7 differs",
            ),
            (Problem::Run("CPU 1 panicked: told to".to_owned()), "CPU 1 panicked: told to"),
        ] {
            assert_eq!(problem.to_string(), text);
        }
    }
}
