//! One boot of a campaign: run, watched, judged.

use std::path::Path;
use std::time::Duration;

use kernel_abi::record::Outcome as CpuOutcome;

use super::keep::Keep;
use super::machine::{PROGRAM, Setup, serial_dir};
use super::options::LoadOptions;
use super::ports::Ports;
use super::problem::Problem;
use super::progress::{Part, View};
use super::result::{Boot, CpuResult, Trouble};
use super::seeds::Seed;
use super::watch::{Cpu, Watch};
use crate::error::Error;
use crate::facts::{Facts, Line};
use crate::qemu::{Wiring, shell_quoted};
use crate::run::judgement;
use crate::screen::Words;
use crate::session;
use crate::verify::{Judgement, Outcome};

/// Which lines of the console the user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// None: many boots run.
    Silent,
    /// All but the numbered lines that the program writes, and the NMIs of a storm.
    Told,
    /// All.
    Whole,
}

/// What all boots of a campaign share.
pub struct Order<'a> {
    /// What a boot is.
    pub load: &'a LoadOptions,
    /// The machine and the kernel.
    pub setup: &'a Setup,
    /// How long a boot may take.
    pub limit: Option<Duration>,
    /// Where the logs of failed boots are kept.
    pub logs: &'a Path,
    /// What is shown of the console.
    pub console: Console,
}

/// A boot under way.
struct Under<'a> {
    watch: Watch,
    facts: Facts,
    words: Words,
    keep: Keep,
    /// What people read of the console, without the written lines: for the log.
    told: Vec<String>,
    verdict: Option<Duration>,
    last: Duration,
    order: &'a Order<'a>,
}

/// Boots with a seed. Each problem is told as soon as it is seen.
pub fn boot(order: &Order<'_>, seed: Seed, part: &mut Part<'_>, tell: &dyn Fn(&str)) -> Result<Boot, Error> {
    let replay = order.load.replay(seed);
    let mut under = Under {
        watch: Watch::new(seed),
        facts: Facts::default(),
        words: Words::new(&order.setup.kernel),
        keep: Keep::begin(order.logs, seed, &replay)?,
        told: Vec::new(),
        verdict: None,
        last: Duration::ZERO,
        order,
    };
    let paste = shell_quoted(&order.setup.words(order.load, seed, Wiring::Terminal));
    under.keep.line(format!("$ {paste}").as_bytes());
    let words = order.setup.words(order.load, seed, Wiring::Session);
    let mut ports = serial_dir(order.load, seed).map(Ports::create).transpose()?;
    let ended = session::run(&words, order.limit, &[], |line, time| {
        if let Some(ports) = &mut ports {
            ports.take(line);
        }
        under.line(line, time, part, tell);
    })?;
    if let Some(ports) = ports {
        ports.lines(|line| {
            under.watched(line, &Line::Text, tell);
        })?;
    }
    let judgement = judgement(&ended, &under.facts);
    let before = under.watch.problems.len();
    let calls = order.load.calls().filter(|_| order.load.seconds.is_none());
    under.watch.finish(judgement.outcome, &under.facts, calls);
    under.watch.problems[before..].iter().for_each(|problem| tell(&problem.to_string()));
    let (outcome, problems) = conclude(&judgement, std::mem::take(&mut under.watch.problems));
    // What was not told yet.
    problems.iter().filter(|problem| matches!(problem, Problem::Run(_))).for_each(|p| tell(&p.to_string()));
    under.keep.section("as read", &under.told.join("\n"));
    under.keep.section("problems", &problems.iter().map(|p| format!("{p}\n")).collect::<String>());
    under.keep.section("registers", ended.registers.as_deref().unwrap_or(""));
    under.keep.section("what QEMU says", &ended.stderr);
    let cpus = under.cpus();
    let trouble = |problem: &Problem| Trouble { cpu: problem.cpu(), what: problem.to_string() };
    Ok(Boot {
        seed,
        replay,
        outcome,
        seconds: under.verdict.unwrap_or(under.last).as_secs_f64(),
        problems: problems.iter().map(trouble).collect(),
        warnings: judgement.warnings,
        log: under.keep.end(outcome != Outcome::Pass),
        cpus,
    })
}

/// The outcome, and all problems in the order of what they say: a panic explains what comes after it, and what the
/// watch found explains that a program did not exit with code 0.
fn conclude(judgement: &Judgement, mut found: Vec<Problem>) -> (Outcome, Vec<Problem>) {
    // A violation's exit code says it a second time.
    let again = |error: &String| {
        found.iter().any(|problem| match problem {
            Problem::Violation { cpu, .. } => *error == format!("CPU {cpu}: {PROGRAM} exited with code 3"),
            _ => false,
        })
    };
    let run: Vec<_> =
        judgement.errors.iter().filter(|error| !again(error)).cloned().map(Problem::Run).collect();
    match judgement.outcome {
        Outcome::Pass if found.is_empty() => (Outcome::Pass, found),
        Outcome::Pass | Outcome::Failed => {
            found.extend(run);
            (Outcome::Failed, found)
        }
        outcome => (outcome, run.into_iter().chain(found).collect()),
    }
}

impl Under<'_> {
    fn line(&mut self, line: &[u8], time: Duration, part: &mut Part<'_>, tell: &dyn Fn(&str)) {
        self.keep.line(line);
        let seen = self.facts.take(line);
        let noise = self.watched(line, &seen, tell) || self.is_of_the_storm(line);
        let shown = match self.order.console {
            Console::Silent => false,
            Console::Told => !noise,
            Console::Whole => true,
        };
        if shown || !noise {
            let words = self.words.of(line, &seen);
            if shown {
                words.iter().for_each(|text| part.say(text));
            }
            if !noise {
                self.told.extend(words);
            }
        }
        if !self.facts.verdicts.is_empty() {
            self.verdict.get_or_insert(time);
        }
        self.last = time;
        if part.is_due(time) {
            let views = self.watch.cpus.iter();
            part.show(time, views.map(|(&cpu, Cpu { lines, event, .. })| View { cpu, lines: *lines, event }));
        }
    }

    /// Watches a line, and tells at once what is wrong with it. True: it is one of the written lines.
    fn watched(&mut self, line: &[u8], seen: &Line, tell: &dyn Fn(&str)) -> bool {
        let before = self.watch.problems.len();
        let written = self.watch.take(line, seen);
        self.watch.problems[before..].iter().for_each(|problem| tell(&problem.to_string()));
        written
    }

    /// The kernel says each NMI. Those that it was told to send are no news.
    fn is_of_the_storm(&self, line: &[u8]) -> bool {
        const NMI: &[u8] = b" NMI, the latest at RIP ";
        self.order.load.nmi_storm != 0 && line.windows(NMI.len()).any(|part| part == NMI)
    }

    fn cpus(&self) -> Vec<CpuResult> {
        let there = self.facts.cpus.iter().filter(|cpu| cpu.outcome != CpuOutcome::Missing);
        let mut cpus: Vec<_> = there
            .map(|cpu| {
                let state = self.watch.cpus.get(&cpu.cpu);
                let counts = self.facts.calls.iter().find(|calls| calls.cpu == cpu.cpu);
                CpuResult {
                    cpu: cpu.cpu,
                    syscalls: cpu.syscalls,
                    counts: counts.map_or(Vec::new(), |calls| calls.counts.to_vec()),
                    calls: state.and_then(|state| Some(state.last.as_ref()?.calls)),
                    lines: state.map_or(0, |state| state.lines),
                    ticks: cpu.ticks,
                }
            })
            .collect();
        cpus.sort_by_key(|cpu| cpu.cpu);
        cpus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(outcome: Outcome, errors: &[&str]) -> Judgement {
        let errors = errors.iter().map(|&error| error.to_owned()).collect();
        Judgement { outcome, errors, warnings: Vec::new() }
    }

    #[test]
    fn a_pass_with_a_problem_is_a_failure() {
        let problem = Problem::NoLast { cpu: 1 };
        assert_eq!(conclude(&judged(Outcome::Pass, &[]), vec![]), (Outcome::Pass, vec![]));
        assert_eq!(
            conclude(&judged(Outcome::Pass, &[]), vec![problem.clone()]),
            (Outcome::Failed, vec![problem])
        );
    }

    #[test]
    fn the_cause_comes_first() {
        let violation = Problem::Violation { cpu: 0, text: "rbx".to_owned() };
        let run = |text: &str| Problem::Run(text.to_owned());
        let errors = ["CPU 0: stress exited with code 3", "CPU 1: stress exited with code 3"];
        let (_, failed) = conclude(&judged(Outcome::Failed, &errors), vec![violation.clone()]);
        assert_eq!(failed, [violation.clone(), run(errors[1])]);
        let (outcome, panicked) = conclude(&judged(Outcome::Panic, &["panicked"]), vec![violation.clone()]);
        assert_eq!((outcome, panicked), (Outcome::Panic, vec![run("panicked"), violation]));
    }
}
