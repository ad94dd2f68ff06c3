//! Runs one boot of a campaign, checks its console and counters, and determines its outcome.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kernel_abi::record::Outcome as CpuOutcome;
use machine::code::Code;
use machine::error::Error;
use machine::facts::{Facts, Line};
use machine::guest_memory::GuestMemory;
use machine::qemu::Wiring;
use machine::quoting::shell_quoted;
use machine::report::sum;
use machine::session;
use machine::verify::{Outcome, worst};
use output::printable;
use runner::run::judgement;
use runner::screen::ConsoleFormatter;

use super::conclude::conclude;
use super::evidence::{Collected, Collector, Evidence};
use super::live::Live;
use super::log::BootLog;
use super::machine::{Setup, serial_dir};
use super::options::{LoadOptions, OFF};
use super::problem::Problem;
use super::progress::{BootDisplay, CpuView};
use super::result::{Boot, CpuResult, ProblemRecord};
use super::seeds::Seed;
use super::serial_files::SerialFiles;
use super::watch::{Cpu, Watch};

/// If no console line arrives for this long, the guest's memory is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The selection of console lines to show to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// No lines, because several boots run at the same time.
    Silent,
    /// All lines except the program's numbered lines and the kernel's messages about injected NMIs.
    Filtered,
    /// All lines.
    Complete,
}

/// Configuration shared by all boots of a campaign.
pub struct BootPlan<'a> {
    /// The workload of each boot.
    pub load: &'a LoadOptions,
    /// The machine and the kernel.
    pub setup: &'a Setup,
    /// Time limit of a boot.
    pub limit: Option<Duration>,
    /// The directory for logs of failed boots.
    pub logs: &'a Path,
    /// Whether the traces of passed boots are kept too.
    pub keep_traces: bool,
    /// Whether a report is written.
    pub report: bool,
    /// The selection of console lines to show.
    pub console: Console,
}

/// A completed boot.
pub struct FinishedBoot {
    /// The result.
    pub boot: Boot,
    /// Data for the report, if the report includes this boot.
    pub evidence: Option<Evidence>,
}

/// The state of a running boot.
struct BootRun<'a> {
    watch: Watch,
    facts: Facts,
    formatter: ConsoleFormatter,
    log: BootLog,
    /// Console lines for the log: addresses are resolved to symbols, and the program's numbered lines are omitted.
    filtered: Vec<String>,
    /// Time at which the host received the kernel's verdict.
    verdict_at: Option<Duration>,
    /// Time at which the host received the latest line.
    last_line_at: Duration,
    /// Access to the guest's memory; `None` if its size is unknown or the user's options define a memory backend.
    live: Option<Live>,
    plan: &'a BootPlan<'a>,
}

/// Boots with a seed. Passes each problem to `on_problem` when it is detected. If the boot passes, evidence is
/// collected only if `in_report` is set.
pub fn boot(
    plan: &BootPlan<'_>,
    seed: Seed,
    in_report: bool,
    display: &mut BootDisplay<'_>,
    on_problem: &dyn Fn(&str),
) -> Result<FinishedBoot, Error> {
    let replay = plan.load.replay(seed);
    let memory = GuestMemory::create(&plan.load.machine)?;
    let live = memory.as_ref().map(GuestMemory::ram).transpose()?.map(Live::new);
    let shown_command = plan.setup.command_line(plan.load, seed, Wiring::Terminal)?;
    let mut run = BootRun {
        watch: Watch::new(seed),
        facts: Facts::default(),
        formatter: ConsoleFormatter::new(Code::of_command(&shown_command)),
        log: BootLog::begin(plan.logs, seed, &replay)?,
        filtered: Vec::new(),
        verdict_at: None,
        last_line_at: Duration::ZERO,
        live,
        plan,
    };
    let paste = shell_quoted(&shown_command);
    run.log.line(format!("$ {paste}").as_bytes());
    let command = plan.setup.command_line(plan.load, seed, Wiring::Session)?;
    let command = memory.as_ref().map_or(command.clone(), |memory| memory.wire(command));
    let cpus = machine::serial_ports::cpus(&plan.load.machine.smp);
    let create = |folder| SerialFiles::create(folder, cpus);
    let mut serial_files = serial_dir(plan.load, seed).map(create).transpose()?;
    let command = serial_files.as_ref().map_or(command.clone(), |files| files.wire(command));
    let pause = run.live.is_some().then_some(POLL_INTERVAL);
    let ended = session::watch(&command, plan.limit, &[], pause, |line, time| {
        if let Some(line) = line {
            if let Some(files) = &mut serial_files {
                files.take(line);
            }
            run.line(line, time, display, on_problem);
        }
        run.progress(time, display);
    })?;
    let mut lost = Vec::new();
    if let Some(files) = serial_files {
        let read = files.lines(|line| {
            run.check_line(line, &Line::Text, on_problem);
        });
        lost.extend(read.err().map(|error| error.to_string()));
    }
    run.formatter.code.add_kill_locations(&mut run.facts);
    let judgement = judgement(&ended, &run.facts);
    let ended_early = judgement.outcome.is_early();
    let incomplete =
        memory.as_ref().filter(|_| ended_early).map_or(Vec::new(), GuestMemory::incomplete_lines);
    for line in incomplete {
        run.log.line(&line.line());
        let text = printable(&line.line());
        if plan.console != Console::Silent {
            display.print(&text);
        }
        run.filtered.push(text);
    }
    let before = run.watch.problems.len();
    let calls = plan.load.calls().filter(|_| plan.load.seconds.is_none());
    run.watch.finish(judgement.outcome, &run.facts, calls);
    run.watch.problems[before..].iter().for_each(|problem| on_problem(&problem.to_string()));
    let (mut outcome, mut problems) = conclude(&judgement, std::mem::take(&mut run.watch.problems));
    // Report the errors of the run, which have not been passed to `on_problem` yet.
    problems
        .iter()
        .filter(|problem| matches!(problem, Problem::Run(_)))
        .for_each(|p| on_problem(&p.to_string()));
    run.log.section("console, filtered", &run.filtered.join("\n"));
    run.log.section("problems", &problems.iter().map(|p| format!("{p}\n")).collect::<String>());
    let registers = ended.registers.as_deref().unwrap_or("");
    run.log.section("registers", &run.formatter.code.named_registers(registers));
    run.log.section("QEMU's messages", &ended.stderr);
    let failed = outcome != Outcome::Pass;
    let in_report = plan.report && (failed || in_report);
    let time = run.verdict_at.unwrap_or(run.last_line_at);
    if let Some(live) = run.live.as_mut().filter(|_| failed || in_report) {
        live.poll_final(time);
    }
    let cpus = run.cpus();
    let record = |problem: &Problem| ProblemRecord { cpu: problem.cpu(), what: problem.to_string() };
    let collector = Collector {
        memory: memory.as_ref(),
        recorded: plan.load.trace != OFF,
        log: &run.log,
        facts: &run.facts,
        qemu: paste,
        live: run.live.take(),
    };
    let Collected { trace, evidence, warnings: trace_warnings, lost: lost_trace } =
        collector.collect(failed || plan.keep_traces, in_report);
    lost.extend(lost_trace);
    let log = run.log.end(failed).unwrap_or_else(|error| {
        lost.push(error.to_string());
        None
    });
    if !lost.is_empty() {
        outcome = worst([outcome, Outcome::Host].into_iter());
        lost.iter().for_each(|error| on_problem(error));
        problems.extend(lost.into_iter().map(Problem::Run));
    }
    let warnings = [judgement.warnings, trace_warnings].concat();
    let boot = Boot {
        seed,
        replay,
        outcome,
        seconds: time.as_secs_f64(),
        problems: problems.iter().map(record).collect(),
        warnings,
        log,
        trace,
        cpus,
    };
    Ok(FinishedBoot { boot, evidence })
}

impl BootRun<'_> {
    /// Handles a console line: logs, checks and shows it.
    fn line(
        &mut self,
        line: &[u8],
        time: Duration,
        display: &mut BootDisplay<'_>,
        on_problem: &dyn Fn(&str),
    ) {
        self.log.line(line);
        let seen = self.facts.take(line);
        let noise = self.check_line(line, &seen, on_problem) || self.is_injected_nmi(line);
        let shown = match self.plan.console {
            Console::Silent => false,
            Console::Filtered => !noise,
            Console::Complete => true,
        };
        if shown || !noise {
            let lines = self.formatter.format(line, &seen);
            if shown {
                lines.iter().for_each(|text| display.print(text));
            }
            if !noise {
                self.filtered.extend(lines);
            }
        }
        if !self.facts.verdicts.is_empty() {
            self.verdict_at.get_or_insert(time);
        }
        self.last_line_at = time;
    }

    /// Polls the guest's counters, and updates the display when its interval has passed.
    fn progress(&mut self, time: Duration, display: &mut BootDisplay<'_>) {
        // Before the kernel starts there are no counters, and a search would slow down the firmware, which fills the memory.
        if let Some(live) = self.live.as_mut().filter(|_| self.facts.started) {
            live.poll(time);
        }
        if display.is_due(time) {
            display.show(time, self.views().into_iter());
        }
    }

    /// Returns the state of each CPU that has printed a line or has counters in the guest's memory.
    fn views(&self) -> Vec<CpuView<'_>> {
        let status = self.live.as_ref().map(Live::status).unwrap_or_default();
        let counted = (0..).zip(status.iter()).map(|(cpu, _)| cpu);
        let cpus: BTreeSet<u32> = self.watch.cpus.keys().copied().chain(counted).collect();
        let view = |cpu: u32| {
            let watched = self.watch.cpus.get(&cpu);
            let message = watched.map_or("", |watched: &Cpu| watched.message.as_str());
            let lines = watched.map_or(0, |watched| watched.lines);
            CpuView { cpu, status: status.get(cpu as usize).cloned(), lines, message }
        };
        cpus.into_iter().map(view).collect()
    }

    /// Checks a line and passes its problems to `on_problem`. Returns whether it is one of the program's numbered
    /// lines.
    fn check_line(&mut self, line: &[u8], seen: &Line, on_problem: &dyn Fn(&str)) -> bool {
        let before = self.watch.problems.len();
        let is_numbered = self.watch.take(line, seen);
        self.watch.problems[before..].iter().for_each(|problem| on_problem(&problem.to_string()));
        is_numbered
    }

    /// Returns whether the line reports an NMI that `--nmi-storm` caused. The kernel prints one line for each NMI.
    fn is_injected_nmi(&self, line: &[u8]) -> bool {
        const NMI: &[u8] = b" NMI, the latest at RIP ";
        self.plan.load.nmi_storm != 0 && line.windows(NMI.len()).any(|part| part == NMI)
    }

    /// Returns each CPU's counts, taken from the kernel's report or, if the report lacks the CPU, from the guest's
    /// memory.
    fn cpus(&self) -> Vec<CpuResult> {
        let present = self.facts.cpus.iter().filter(|cpu| cpu.outcome != CpuOutcome::Missing);
        let reported = present.map(|cpu| {
            let counts = self.facts.calls.iter().find(|calls| calls.cpu == cpu.cpu);
            let counts = counts.map_or(Vec::new(), |calls| calls.counts.to_vec());
            (cpu.cpu, cpu.syscalls, counts, cpu.ticks)
        });
        let mut cpus: Vec<_> = reported.collect();
        for (cpu, counted) in (0..).zip(self.live.iter().flat_map(Live::counters)) {
            if cpus.iter().all(|(reported, ..)| *reported != cpu) {
                cpus.push((cpu, sum(counted.calls), counted.calls.to_vec(), counted.ticks));
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
