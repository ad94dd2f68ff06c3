//! Checks the console of one boot, line by line.

use std::collections::BTreeMap;

use machine::facts::{Facts, Line};
use machine::verify::Outcome;

use super::console_line::{self, ConsoleLine, LastLine};
use super::counts::{self, ProgramOutput};
use super::lines;
use super::problem::Problem;
use super::seeds::Seed;

/// Maximum number of a CPU's wrong lines that are listed. Further ones are only counted.
const LISTED_MAX: u64 = 3;

/// State of one CPU's output.
#[derive(Default)]
pub struct Cpu {
    /// Numbered lines of the program that were received.
    pub lines: u64,
    /// The CPU's latest line that is not a numbered line.
    pub message: String,
    /// The last line of the CPU's program; `None` if it was not received.
    pub last: Option<LastLine>,
    /// The expected number of the next numbered line.
    next: u64,
    /// The number of wrong numbered lines.
    wrong: u64,
    /// The latest numbered line if it is incomplete. This is a problem unless the program was killed or reported a
    /// violation at that point.
    cut: Option<Problem>,
    /// Whether the CPU's program reported a violation.
    violated: bool,
}

/// The state of checking one boot's console.
pub struct Watch {
    seed: Seed,
    /// The state of each CPU, by dense index.
    pub cpus: BTreeMap<u32, Cpu>,
    /// The problems found so far, in order of detection.
    pub problems: Vec<Problem>,
    /// Unknown lines. They are not reported after a panic, because a panic may truncate other CPUs' lines.
    unknown: Vec<Problem>,
    panicked: bool,
}

impl Watch {
    /// Creates the watch for a boot with this seed.
    pub fn new(seed: Seed) -> Watch {
        Watch { seed, cpus: BTreeMap::new(), problems: Vec::new(), unknown: Vec::new(), panicked: false }
    }

    /// Checks a console line, passed without its newline. Returns whether it is one of the program's numbered lines,
    /// which are not shown to the user.
    pub fn take(&mut self, line: &[u8], seen: &Line) -> bool {
        match seen {
            Line::Text => {}
            Line::Panic(..) => {
                self.panicked = true;
                return false;
            }
            Line::Early | Line::Counted | Line::Frame(..) => return false,
        }
        if self.panicked {
            // After a panic, registers, a backtrace and incomplete lines of other CPUs follow.
            return false;
        }
        let Some((cpu, text)) = console_line::split(line) else {
            self.unknown.push(Problem::UnknownLine { cpu: None, line: line.to_vec() });
            return false;
        };
        let state = self.cpus.entry(cpu).or_default();
        let parsed = console_line::parse(text);
        if parsed != ConsoleLine::Kernel
            && let Some(cut) = state.cut.take()
            && !matches!(parsed, ConsoleLine::Violation(_))
        {
            self.problems.extend(state.wrong_line(cut));
        }
        if parsed == ConsoleLine::Written {
            let problem = state.check_written(self.seed, cpu, text);
            self.problems.extend(problem);
            return true;
        }
        state.message = String::from_utf8_lossy(text).into_owned();
        match parsed {
            ConsoleLine::Violation(text) => {
                state.violated = true;
                // Remove `cpu=N` if the prefix has the same CPU, because the message already names the CPU.
                let text = text.strip_prefix(&format!("cpu={cpu} ")).unwrap_or(&text).to_owned();
                self.problems.push(Problem::Violation { cpu, text });
            }
            ConsoleLine::Last(last) => {
                if last.seed != self.seed {
                    self.problems.push(Problem::WrongSeed { cpu, got: last.seed });
                }
                if state.last.replace(last).is_some() {
                    self.problems.push(Problem::TwoLastLines { cpu });
                }
            }
            ConsoleLine::Program(text) => self.problems.push(Problem::ProgramMessage { cpu, text }),
            ConsoleLine::Unknown => {
                self.unknown.push(Problem::UnknownLine { cpu: Some(cpu), line: text.to_vec() })
            }
            ConsoleLine::Written | ConsoleLine::Kernel => {}
        }
        false
    }

    /// Performs the checks that are possible only at the end of a boot. Does not report consequences of a panic or a
    /// timeout.
    pub fn finish(&mut self, outcome: Outcome, facts: &Facts, calls: Option<u64>) {
        for (&cpu, state) in &self.cpus {
            if let Some(count) = state.wrong.checked_sub(LISTED_MAX).filter(|&count| count > 0) {
                self.problems.push(Problem::MoreLines { cpu, count });
            }
        }
        if !matches!(outcome, Outcome::Pass | Outcome::Failed) {
            return;
        }
        for (cpu, state) in &mut self.cpus {
            let exited = facts
                .cpus
                .iter()
                .any(|record| record.cpu == *cpu && record.outcome == kernel_abi::record::Outcome::Exited);
            if exited
                && !state.violated
                && let Some(cut) = state.cut.take()
            {
                self.problems.push(cut);
            }
        }
        self.problems.append(&mut self.unknown);
        let programs: Vec<_> = self
            .cpus
            .iter()
            .map(|(&cpu, state)| ProgramOutput {
                cpu,
                last: state.last.as_ref(),
                lines: state.lines,
                violated: state.violated,
            })
            .collect();
        self.problems.extend(counts::compare(facts, &programs, calls));
    }
}

impl Cpu {
    /// Compares a numbered line with the expected one.
    fn check_written(&mut self, seed: Seed, cpu: u32, text: &[u8]) -> Option<Problem> {
        self.lines += 1;
        let number = self.next;
        self.next += 1;
        let expected = lines::line(seed, cpu, number);
        if expected.as_bytes() == text {
            return None;
        }
        let is_cut = expected.as_bytes().starts_with(text);
        let problem = Problem::Line { cpu, number, expected, got: text.to_vec() };
        if is_cut {
            self.lines -= 1;
            self.cut = Some(problem);
            return None;
        }
        // After a lost or repeated line, continue counting from the received line.
        if let Some(number) = lines::number(text)
            && lines::line(seed, cpu, number).as_bytes() == text
        {
            self.next = number.saturating_add(1);
        }
        self.wrong_line(problem)
    }

    /// Counts a wrong line. Returns its problem if it must be listed.
    fn wrong_line(&mut self, problem: Problem) -> Option<Problem> {
        self.wrong += 1;
        (self.wrong <= LISTED_MAX).then_some(problem)
    }
}

#[cfg(test)]
mod tests;
