//! Checks the console line by line: progress lines are in order, each CPU prints one summary, and there are no unknown
//! lines.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::report::sum;

use super::problem::Problem;
use crate::stress::seeds::Seed;

/// Number of program starts between two progress lines, as in the program.
const ROUNDS_PER_LINE: u64 = 32;
/// How long a CPU may print nothing while another CPU prints. This is long enough for a busy host.
const SILENCE: Duration = Duration::from_secs(60);
/// Part of the kernel's message about a #DB in ring 0, which single-stepping in ring 3 must not cause.
const STEPPED: &[u8] = b"#DB in ring 0";
/// The bytes that probes write, apart from newlines.
const FILLERS: [u8; 2] = *b"~=";

/// The summary printed by the last copy of the program on a CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The seed that the program ran with.
    pub seed: u64,
    /// Number of rows in the program's table of survivable probes.
    pub survived_rows: u64,
    /// Number of rows in the program's table of deadly probes.
    pub deadly_rows: u64,
    /// Number of probes of each class, in the program's order.
    pub classes: Vec<(String, u64)>,
}

/// State of one CPU's output.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// The round that the next progress line must name.
    next_round: u64,
    /// Time of the CPU's latest line, since QEMU's start.
    printed: Duration,
    /// Whether the CPU was reported as silent.
    silent: bool,
    /// The CPU's summary; `None` until it is received.
    pub summary: Option<Summary>,
}

/// The state of checking one boot's console.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The state of each CPU, by dense index.
    pub cpus: BTreeMap<u32, Cpu>,
    /// The problems found so far.
    pub problems: Vec<Problem>,
}

/// Whether a line is shown to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A message of the kernel, or a problem: shown.
    Message,
    /// Output of a probe, a progress line or a summary: not shown.
    Noise,
}

impl Watch {
    /// Checks a console line that is not a record. The line is passed without its newline.
    pub fn take(&mut self, line: &[u8], time: Duration) -> LineKind {
        let Some((number, text)) = split(line) else {
            self.problems.push(Problem::UnknownLine { cpu: None, line: line.to_owned() });
            return LineKind::Message;
        };
        // The kernel's messages.
        if text.starts_with(b"ringside: ") {
            if text.windows(STEPPED.len()).any(|part| part == STEPPED) {
                let text = String::from_utf8_lossy(text).into_owned();
                self.problems.push(Problem::Ring0Step { cpu: number, text });
            }
            return LineKind::Message;
        }
        let kind = self.take_program_line(number, text);
        if kind == LineKind::Noise {
            self.cpus.entry(number).or_default().printed = time;
            self.check_silence(time);
        }
        kind
    }

    /// Checks a line that a program wrote.
    fn take_program_line(&mut self, number: u32, text: &[u8]) -> LineKind {
        let cpu = self.cpus.entry(number).or_default();
        if text.iter().all(|byte| FILLERS.contains(byte)) {
            return LineKind::Noise;
        }
        let words = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix("hostile: "));
        let problem = match words {
            None => Problem::UnknownLine { cpu: Some(number), line: text.to_owned() },
            Some(words) if words.starts_with("UNEXPECTED ") => {
                Problem::Unexpected { cpu: number, text: words["UNEXPECTED ".len()..].to_owned() }
            }
            Some(words) => {
                if let Some(round) = words.strip_prefix("round ").and_then(|text| text.parse::<u64>().ok()) {
                    let expected =
                        std::mem::replace(&mut cpu.next_round, round.saturating_add(ROUNDS_PER_LINE));
                    if round == expected {
                        return LineKind::Noise;
                    }
                    Problem::Round { cpu: number, expected, got: round }
                } else if let Some(summary) =
                    words.strip_prefix("done ").and_then(|text| parse_summary(number, text))
                    && cpu.summary.is_none()
                {
                    cpu.summary = Some(summary);
                    return LineKind::Noise;
                } else {
                    Problem::UnknownLine { cpu: Some(number), line: text.to_owned() }
                }
            }
        };
        self.problems.push(problem);
        LineKind::Message
    }

    /// Reports each CPU that has printed nothing for too long. Called after another CPU has printed.
    fn check_silence(&mut self, time: Duration) {
        for (number, cpu) in &mut self.cpus {
            if cpu.summary.is_none() && !cpu.silent && time.saturating_sub(cpu.printed) > SILENCE {
                cpu.silent = true;
                self.problems.push(Problem::Silent { cpu: *number, seconds: (time - cpu.printed).as_secs() });
            }
        }
    }

    /// Checks the summaries at the end of a passed run: counts, starts and seed of each CPU.
    pub fn finish(&mut self, seed: Seed, rounds: u64, probes: u64, cpus: &[machine::facts::Cpu]) {
        for cpu in cpus {
            let number = cpu.cpu;
            let Some(summary) = self.cpus.get(&number).and_then(|cpu| cpu.summary.as_ref()) else {
                self.problems.push(Problem::NoSummary { cpu: number });
                continue;
            };
            // Each round consists of a start, the survivable probes and, except in the last round, a deadly probe.
            let expected = rounds * (probes + 2) - 1;
            let got = sum(summary.classes.iter().map(|(_, count)| *count));
            if got != expected {
                self.problems.push(Problem::Count { cpu: number, what: "probes", expected, got });
            }
            if u64::from(cpu.starts) != rounds {
                let got = cpu.starts.into();
                self.problems.push(Problem::Count { cpu: number, what: "starts", expected: rounds, got });
            }
            if summary.seed != seed.0 {
                self.problems.push(Problem::WrongSeed { cpu: number, got: Seed(summary.seed) });
            }
        }
    }
}

/// Splits a line into the CPU and the text after `[cpuN] `.
fn split(line: &[u8]) -> Option<(u32, &[u8])> {
    let line = line.strip_prefix(b"[cpu")?;
    let end = line.iter().position(|byte| *byte == b']')?;
    let number = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
    Some((number, line[end + 1..].strip_prefix(b" ")?))
}

/// Parses a summary. Returns `None` if it is garbled or names another CPU.
fn parse_summary(number: u32, text: &str) -> Option<Summary> {
    let mut summary = Summary::default();
    for word in text.split(' ') {
        let (name, value) = word.split_once('=')?;
        match name {
            "cpu" if value.parse() == Ok(number) => {}
            "cpu" => return None,
            "seed" => summary.seed = u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()?,
            "survived_rows" => summary.survived_rows = value.parse().ok()?,
            "deadly_rows" => summary.deadly_rows = value.parse().ok()?,
            class => summary.classes.push((class.to_owned(), value.parse().ok()?)),
        }
    }
    (!summary.classes.is_empty()).then_some(summary)
}

#[cfg(test)]
mod tests;
