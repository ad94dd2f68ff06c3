//! Watches the console of one boot, line by line.

use std::collections::BTreeMap;

use machine::facts::{Facts, Line};
use machine::verify::Outcome;

use super::counts::{self, Told};
use super::lines;
use super::problem::Problem;
use super::said::{self, Last, Said};
use super::seeds::Seed;

/// Wrong lines of a CPU that are listed; the others are counted.
const LISTED: u64 = 3;

/// What came from one CPU.
#[derive(Default)]
pub struct Cpu {
    /// Written lines that came.
    pub lines: u64,
    /// What it said last that is no written line.
    pub event: String,
    /// The last line of its program.
    pub last: Option<Last>,
    /// The number of the next written line.
    next: u64,
    /// Written lines that were wrong.
    wrong: u64,
    /// A written line that ended too early: right only if the program ended there.
    cut: Option<Problem>,
    violated: bool,
}

/// The console of one boot, as far as it came.
pub struct Watch {
    seed: Seed,
    /// By dense index.
    pub cpus: BTreeMap<u32, Cpu>,
    /// What is wrong so far, in the order in which it came.
    pub problems: Vec<Problem>,
    /// Lines of which nobody knows who wrote them: a panic may tear lines.
    stray: Vec<Problem>,
    panicked: bool,
}

impl Watch {
    /// Nothing came yet.
    pub fn new(seed: Seed) -> Watch {
        Watch { seed, cpus: BTreeMap::new(), problems: Vec::new(), stray: Vec::new(), panicked: false }
    }

    /// Takes a console line, without its line end. True: it is one of the written lines, which nobody wants to see.
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
            // Registers, the backtrace, and what other CPUs had begun.
            return false;
        }
        let Some((cpu, text)) = said::split(line) else {
            self.stray.push(Problem::Stray { cpu: None, line: line.to_vec() });
            return false;
        };
        let state = self.cpus.entry(cpu).or_default();
        let said = said::read(text);
        if said != Said::Kernel
            && let Some(cut) = state.cut.take()
            && !matches!(said, Said::Violation(_))
        {
            self.problems.extend(state.wrong_line(cut));
        }
        if said == Said::Written {
            let problem = state.written(self.seed, cpu, text);
            self.problems.extend(problem);
            return true;
        }
        state.event = String::from_utf8_lossy(text).into_owned();
        match said {
            Said::Violation(text) => {
                state.violated = true;
                // That it names the CPU of its prefix is no news; another would be.
                let text = text.strip_prefix(&format!("cpu={cpu} ")).unwrap_or(&text).to_owned();
                self.problems.push(Problem::Violation { cpu, text });
            }
            Said::Last(last) => {
                if last.seed != self.seed {
                    self.problems.push(Problem::OtherSeed { cpu, got: last.seed });
                }
                if state.last.replace(last).is_some() {
                    self.problems.push(Problem::LastTwice { cpu });
                }
            }
            Said::Program(text) => self.problems.push(Problem::Said { cpu, text }),
            Said::Nobody => self.stray.push(Problem::Stray { cpu: Some(cpu), line: text.to_vec() }),
            Said::Written | Said::Kernel => {}
        }
        false
    }

    /// The boot has ended so, with these facts: what can be said only now. Consequences of an end that is bad
    /// enough by itself are left out.
    pub fn finish(&mut self, outcome: Outcome, facts: &Facts, calls: Option<u64>) {
        for (&cpu, state) in &self.cpus {
            if let Some(count) = state.wrong.checked_sub(LISTED).filter(|&count| count > 0) {
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
        self.problems.append(&mut self.stray);
        let told: Vec<_> = self
            .cpus
            .iter()
            .map(|(&cpu, state)| Told {
                cpu,
                last: state.last.as_ref(),
                lines: state.lines,
                violated: state.violated,
            })
            .collect();
        self.problems.extend(counts::compare(facts, &told, calls));
    }
}

impl Cpu {
    /// Compares a written line with the one that has to come.
    fn written(&mut self, seed: Seed, cpu: u32, text: &[u8]) -> Option<Problem> {
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
        // After lines that are lost, and after one that came twice, the count goes on from the line that came.
        if let Some(came) = lines::number(text)
            && lines::line(seed, cpu, came).as_bytes() == text
        {
            self.next = came.saturating_add(1);
        }
        self.wrong_line(problem)
    }

    fn wrong_line(&mut self, problem: Problem) -> Option<Problem> {
        self.wrong += 1;
        (self.wrong <= LISTED).then_some(problem)
    }
}

#[cfg(test)]
mod tests;
