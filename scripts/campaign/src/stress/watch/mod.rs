//! Checks the console of one boot, line by line.

use std::collections::BTreeMap;

use machine::facts::{Facts, Line};
use machine::verify::Outcome;

use super::console_line::{self, ConsoleLine, LastLine};
use super::counts::{self, ProgramOutput};
use super::lines;
use super::problem::Problem;
use super::seeds::Seed;

/// Maximum number of a CPU's wrong lines that are listed; the others are counted.
const LISTED_MAX: u64 = 3;

/// State of one CPU's output.
#[derive(Default)]
pub struct Cpu {
    /// Written lines that were received.
    pub lines: u64,
    /// Its latest line that is not a written line.
    pub message: String,
    /// The last line of its program, if it was received.
    pub last: Option<LastLine>,
    /// The number of the next written line.
    next: u64,
    /// Written lines that were wrong.
    wrong: u64,
    /// An incomplete written line: correct only if the program was killed or reported a violation there.
    cut: Option<Problem>,
    /// Whether its program reported a violation.
    violated: bool,
}

/// The console of one boot, as far as it has come.
pub struct Watch {
    seed: Seed,
    /// By dense index.
    pub cpus: BTreeMap<u32, Cpu>,
    /// What is wrong so far, in order of detection.
    pub problems: Vec<Problem>,
    /// Unknown lines. They are not reported after a panic, which may tear lines.
    unknown: Vec<Problem>,
    panicked: bool,
}

impl Watch {
    /// Creates the watch of a boot with this seed.
    pub fn new(seed: Seed) -> Watch {
        Watch { seed, cpus: BTreeMap::new(), problems: Vec::new(), unknown: Vec::new(), panicked: false }
    }

    /// Checks a console line, without its line end. Returns whether it is one of the written lines, which are not shown.
    pub fn take(&mut self, line: &[u8], seen: &Line) -> bool {
        match seen {
            Line::Text => {}
            Line::Panic(..) => {
                self.panicked = true;
                return false;
            }
            Line::Counted | Line::Frame(..) => return false,
        }
        if self.panicked {
            // Registers, the backtrace, and incomplete lines of other CPUs.
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
                // Removes the CPU if it is that of the prefix; the message names it already.
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

    /// Checks what can be checked only at the end of the boot. Consequences of a panic or a timeout are not reported.
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
    /// Compares a written line with the expected one.
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
        // After a lost or repeated line the count continues from the received line.
        if let Some(number) = lines::number(text)
            && lines::line(seed, cpu, number).as_bytes() == text
        {
            self.next = number.saturating_add(1);
        }
        self.wrong_line(problem)
    }

    /// Counts a wrong line, and returns its problem if it is to be listed.
    fn wrong_line(&mut self, problem: Problem) -> Option<Problem> {
        self.wrong += 1;
        (self.wrong <= LISTED_MAX).then_some(problem)
    }
}

#[cfg(test)]
mod tests;
