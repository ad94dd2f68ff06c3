//! What the console says of the probes, line by line: signs of life in their order, last words, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::problem::Problem;
use crate::stress::seeds::Seed;

/// Starts from one sign of life to the next, as the program has it.
const ROUNDS_A_LINE: u64 = 32;
/// How long a CPU may be silent while another one speaks. A CPU that hangs is silent for ever; a busy host is not.
const SILENCE: Duration = Duration::from_secs(60);
/// What the kernel says if a single step that ring 3 asked for went on in ring 0.
const STEPPED: &[u8] = b"#DB in ring 0";
/// What the probes write, line ends aside.
const FILLERS: [u8; 2] = *b"~=";

/// The last words of a CPU's last copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The seed it ran with.
    pub seed: u64,
    /// Rows of the table of probes that are survived.
    pub survived_rows: u64,
    /// Rows of the table of deadly ones.
    pub deadly_rows: u64,
    /// How many probes of each class, in the program's order.
    pub classes: Vec<(String, u64)>,
}

/// What is known of a CPU.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// The round of which the next sign of life has to tell.
    next: u64,
    /// When it spoke last, since the start.
    spoke: Duration,
    /// Has it been silent for too long, and has that been told?
    silent: bool,
    /// Its last words.
    pub done: Option<Done>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// By number.
    pub cpus: BTreeMap<u32, Cpu>,
    /// What was not as it has to be.
    pub problems: Vec<Problem>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something to show.
    Word,
    /// What a probe wrote, or a sign of life.
    Noise,
}

impl Watch {
    /// Takes a line of the console that is no record, without its line end.
    pub fn take(&mut self, line: &[u8], time: Duration) -> Said {
        let Some((number, text)) = spoken(line) else {
            self.problems.push(Problem::Stray { cpu: None, line: line.to_owned() });
            return Said::Word;
        };
        // The kernel's words, and those about all CPUs that it says before there are any programs.
        if text.starts_with(b"ringside: ") {
            if text.windows(STEPPED.len()).any(|part| part == STEPPED) {
                let text = String::from_utf8_lossy(text).into_owned();
                self.problems.push(Problem::Stepped { cpu: number, text });
            }
            return Said::Word;
        }
        let said = self.of_program(number, text);
        if said == Said::Noise {
            self.cpus.entry(number).or_default().spoke = time;
            self.look_for_silence(time);
        }
        said
    }

    fn of_program(&mut self, number: u32, text: &[u8]) -> Said {
        let cpu = self.cpus.entry(number).or_default();
        if text.iter().all(|byte| FILLERS.contains(byte)) {
            return Said::Noise;
        }
        let words = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix("hostile: "));
        let problem = match words {
            None => Problem::Stray { cpu: Some(number), line: text.to_owned() },
            Some(words) if words.starts_with("UNEXPECTED ") => {
                Problem::Unexpected { cpu: number, text: words["UNEXPECTED ".len()..].to_owned() }
            }
            Some(words) => {
                if let Some(round) = words.strip_prefix("round ").and_then(|text| text.parse::<u64>().ok()) {
                    let expected = std::mem::replace(&mut cpu.next, round + ROUNDS_A_LINE);
                    if round == expected {
                        return Said::Noise;
                    }
                    Problem::Round { cpu: number, expected, got: round }
                } else if let Some(done) = words.strip_prefix("done ").and_then(|text| read(number, text))
                    && cpu.done.is_none()
                {
                    cpu.done = Some(done);
                    return Said::Noise;
                } else {
                    Problem::Stray { cpu: Some(number), line: text.to_owned() }
                }
            }
        };
        self.problems.push(problem);
        Said::Word
    }

    /// One CPU has just spoken: the others must not have been silent for long.
    fn look_for_silence(&mut self, time: Duration) {
        for (number, cpu) in &mut self.cpus {
            if cpu.done.is_none() && !cpu.silent && time.saturating_sub(cpu.spoke) > SILENCE {
                cpu.silent = true;
                self.problems.push(Problem::Silent { cpu: *number, seconds: (time - cpu.spoke).as_secs() });
            }
        }
    }

    /// Looks at all that has to be there at the end of a run that passed.
    pub fn finish(&mut self, seed: Seed, rounds: u64, probes: u64, cpus: &[machine::facts::Cpu]) {
        for cpu in cpus {
            let number = cpu.cpu;
            let Some(done) = self.cpus.get(&number).and_then(|cpu| cpu.done.as_ref()) else {
                self.problems.push(Problem::NotDone { cpu: number });
                continue;
            };
            // A start, the probes that are survived, and a deadly one in all rounds but the last.
            let expected = rounds * (probes + 2) - 1;
            let got = done.classes.iter().map(|(_, count)| count).sum();
            if got != expected {
                self.problems.push(Problem::Count { cpu: number, what: "probes", expected, got });
            }
            if u64::from(cpu.starts) != rounds {
                let got = cpu.starts.into();
                self.problems.push(Problem::Count { cpu: number, what: "starts", expected: rounds, got });
            }
            if done.seed != seed.0 {
                self.problems.push(Problem::OtherSeed { cpu: number, got: Seed(done.seed) });
            }
        }
    }
}

/// A program's or the kernel's line: the CPU and the text behind `[cpuN] `.
fn spoken(line: &[u8]) -> Option<(u32, &[u8])> {
    let line = line.strip_prefix(b"[cpu")?;
    let end = line.iter().position(|byte| *byte == b']')?;
    let number = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
    Some((number, line[end + 1..].strip_prefix(b" ")?))
}

/// Reads the last words. `None`: they are garbled, or another CPU's.
fn read(number: u32, text: &str) -> Option<Done> {
    let mut done = Done::default();
    for word in text.split(' ') {
        let (name, value) = word.split_once('=')?;
        match name {
            "cpu" if value.parse() == Ok(number) => {}
            "cpu" => return None,
            "seed" => done.seed = u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()?,
            "survived_rows" => done.survived_rows = value.parse().ok()?,
            "deadly_rows" => done.deadly_rows = value.parse().ok()?,
            class => done.classes.push((class.to_owned(), value.parse().ok()?)),
        }
    }
    (!done.classes.is_empty()).then_some(done)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
