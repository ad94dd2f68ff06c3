//! One boot of a campaign: run, watched, judged.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kernel_abi::record::Outcome as CpuOutcome;
use machine::error::Error;
use machine::facts::{Facts, Line};
use machine::guest_memory::GuestMemory;
use machine::qemu::{Wiring, shell_quoted};
use machine::session;
use machine::verify::Outcome;
use runner::run::judgement;
use runner::screen::Words;

use super::conclude::conclude;
use super::evidence::{Aftermath, Evidence};
use super::keep::Keep;
use super::live::Live;
use super::machine::{Setup, serial_dir};
use super::options::{LoadOptions, OFF};
use super::ports::Ports;
use super::problem::Problem;
use super::progress::{Part, View};
use super::result::{Boot, CpuResult, Trouble};
use super::seeds::Seed;
use super::watch::{Cpu, Watch};

/// How long the console may be silent before the guest's memory is looked at all the same.
const PAUSE: Duration = Duration::from_millis(20);

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
    /// Keep the trace of each boot?
    pub keep_traces: bool,
    /// Is there a page that shows how a boot went?
    pub report: bool,
    /// What is shown of the console.
    pub console: Console,
}

/// A boot that has ended.
pub struct Booted {
    /// What became of it.
    pub boot: Boot,
    /// What a page can show of it, if that is wanted.
    pub evidence: Option<Evidence>,
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
    /// The look into the guest's memory.
    live: Option<Live>,
    order: &'a Order<'a>,
}

/// Boots with a seed. Each problem is told as soon as it is seen. Of a boot that passes there is evidence only if it
/// is to be `shown`.
pub fn boot(
    order: &Order<'_>,
    seed: Seed,
    shown: bool,
    part: &mut Part<'_>,
    tell: &dyn Fn(&str),
) -> Result<Booted, Error> {
    let replay = order.load.replay(seed);
    let memory = GuestMemory::create(&order.load.machine)?;
    let live = memory.as_ref().map(GuestMemory::ram).transpose()?.map(Live::new);
    let mut under = Under {
        watch: Watch::new(seed),
        facts: Facts::default(),
        words: Words::new(&order.setup.kernel),
        keep: Keep::begin(order.logs, seed, &replay)?,
        told: Vec::new(),
        verdict: None,
        last: Duration::ZERO,
        live,
        order,
    };
    let paste = shell_quoted(&order.setup.words(order.load, seed, Wiring::Terminal));
    under.keep.line(format!("$ {paste}").as_bytes());
    let words = order.setup.words(order.load, seed, Wiring::Session);
    let words = memory.as_ref().map_or(words.clone(), |memory| memory.wire(words));
    let mut ports = serial_dir(order.load, seed).map(Ports::create).transpose()?;
    let pause = under.live.is_some().then_some(PAUSE);
    let ended = session::watch(&words, order.limit, &[], pause, |line, time| {
        if let Some(line) = line {
            if let Some(ports) = &mut ports {
                ports.take(line);
            }
            under.line(line, time, part, tell);
        }
        under.progress(time, part);
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
    let failed = outcome != Outcome::Pass;
    let show = order.report && (failed || shown);
    let time = under.verdict.unwrap_or(under.last);
    if let Some(live) = under.live.as_mut().filter(|_| failed || show) {
        live.last_look(time);
    }
    let cpus = under.cpus();
    let trouble = |problem: &Problem| Trouble { cpu: problem.cpu(), what: problem.to_string() };
    let aftermath = Aftermath {
        memory: memory.as_ref(),
        recorded: order.load.trace != OFF,
        keep: &under.keep,
        facts: &under.facts,
        qemu: paste,
        live: under.live.take(),
    };
    let mut warnings = judgement.warnings;
    let (trace, evidence) = aftermath.take(failed || order.keep_traces, show, &mut warnings);
    let boot = Boot {
        seed,
        replay,
        outcome,
        seconds: time.as_secs_f64(),
        problems: problems.iter().map(trouble).collect(),
        warnings,
        log: under.keep.end(failed),
        trace,
        cpus,
    };
    Ok(Booted { boot, evidence })
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
    }

    /// Looks how far the guest is, and shows it when it is time to.
    fn progress(&mut self, time: Duration, part: &mut Part<'_>) {
        if let Some(live) = &mut self.live {
            live.look(time);
        }
        if part.is_due(time) {
            part.show(time, self.views().into_iter());
        }
    }

    /// What is known of each CPU that was heard of, on the console or in its memory.
    fn views(&self) -> Vec<View<'_>> {
        let now = self.live.as_ref().map(Live::now).unwrap_or_default();
        let counted = (0..).zip(now.iter()).map(|(cpu, _)| cpu);
        let cpus: BTreeSet<u32> = self.watch.cpus.keys().copied().chain(counted).collect();
        let view = |cpu: u32| {
            let heard = self.watch.cpus.get(&cpu);
            let said = heard.map_or("", |heard: &Cpu| heard.event.as_str());
            let lines = heard.map_or(0, |heard| heard.lines);
            View { cpu, now: now.get(cpu as usize).cloned(), lines, said }
        };
        cpus.into_iter().map(view).collect()
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

    /// What each CPU did: as the kernel reported it in the end, or else as its counters in the guest's memory have it.
    fn cpus(&self) -> Vec<CpuResult> {
        let there = self.facts.cpus.iter().filter(|cpu| cpu.outcome != CpuOutcome::Missing);
        let reported = there.map(|cpu| {
            let counts = self.facts.calls.iter().find(|calls| calls.cpu == cpu.cpu);
            let counts = counts.map_or(Vec::new(), |calls| calls.counts.to_vec());
            (cpu.cpu, cpu.syscalls, counts, cpu.ticks)
        });
        let mut cpus: Vec<_> = reported.collect();
        for (cpu, counted) in (0..).zip(self.live.iter().flat_map(Live::counters)) {
            if cpus.iter().all(|(reported, ..)| *reported != cpu) {
                cpus.push((cpu, counted.calls.iter().sum(), counted.calls.to_vec(), counted.ticks));
            }
        }
        cpus.sort_by_key(|(cpu, ..)| *cpu);
        let result = |(cpu, syscalls, counts, ticks)| {
            let state = self.watch.cpus.get(&cpu);
            let calls = state.and_then(|state| Some(state.last.as_ref()?.calls));
            CpuResult { cpu, syscalls, counts, calls, lines: state.map_or(0, |state| state.lines), ticks }
        };
        cpus.into_iter().map(result).collect()
    }
}
