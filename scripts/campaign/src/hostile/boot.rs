//! Runs one boot of `hostile`, checks its console and determines its outcome.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use machine::code::Code;
use machine::directory::IncompleteLine;
use machine::error::Error;
use machine::facts::{Facts, Line};
use machine::guest_memory::GuestMemory;
use machine::options::MachineOptions;
use machine::qemu::{Machine, Wiring};
use machine::tree::root;
use machine::verify::{Judgement, Outcome, worst};
use machine::{build, cmdline, session};
use output::printable;
use output::{Log, eprint, eprintln};
use runner::run::judgement;
use runner::screen::ConsoleFormatter;

use super::options::HostileOptions;
use super::print_line;
use super::problem::Problem;
use super::program::{self, PROGRAM};
use super::result::Run;
use super::watch::{LineKind, Watch};
use crate::stress::seeds::Seed;

/// A boot that is ready to start.
pub struct Boot<'a> {
    options: &'a HostileOptions,
    seed: Seed,
    machine: MachineOptions,
    kernel: PathBuf,
    module: PathBuf,
    cmdline: String,
    log: PathBuf,
}

impl Boot<'_> {
    /// Builds the kernel, and writes the program file with random bytes from this seed.
    pub fn make(options: &HostileOptions, seed: Seed) -> Result<Boot<'_>, Error> {
        if options.machine.serial_dir.is_some() {
            return Err(Error::Usage(
                "hostile reads all lines from one console: remove --serial-dir".to_owned(),
            ));
        }
        let kernel = match &options.kernel {
            Some(kernel) => kernel.clone(),
            None => build::selected_kernel(&options.feature, &options.mutant, options.as_built)?,
        };
        let kernel = build::bootable(options.machine.boot, kernel, options.as_built)?;
        let folder = root().join(format!("target/hostile/{seed}"));
        let module = program::write(&folder, seed)?;
        let machine = options.machine();
        let arguments =
            ["--seed", &seed.to_string(), "--probes", &options.probes.to_string()].map(str::to_owned);
        let keys = options.kernel_keys();
        let cmdline = cmdline::compose(Some(PROGRAM), machine.tick_hz, Some(&keys), &arguments);
        let log = options.log.clone().unwrap_or_else(|| folder.join("console.log"));
        Ok(Boot { options, seed, machine, kernel, module, cmdline, log })
    }

    /// Returns QEMU's command line.
    pub fn command_line(&self, wiring: Wiring<'_>) -> Result<Vec<OsString>, Error> {
        let machine = Machine {
            options: &self.machine,
            kernel: &self.kernel,
            module: Some(&self.module),
            cmdline: &self.cmdline,
            gdb_port: None,
        };
        machine.command_line(wiring)
    }

    /// Boots the machine and checks the console output.
    pub fn run(&self, replay: String) -> Result<Run, Error> {
        let mut listener = self.listener()?;
        let limit = Some(self.options.seconds()).filter(|seconds| *seconds != 0).map(Duration::from_secs);
        // If the host cannot map this memory, incomplete lines of the program are not shown after a failure.
        let memory = GuestMemory::create(&self.machine).unwrap_or(None);
        let words = self.command_line(Wiring::Session)?;
        let words = memory.as_ref().map_or(words.clone(), |memory| memory.wire(words));
        let ended = session::run(&words, limit, &[], |line, time| listener.take(line, time))?;
        listener.formatter.code.add_kill_locations(&mut listener.facts);
        let judgement = judgement(&ended, &listener.facts);
        let incomplete = memory
            .as_ref()
            .filter(|_| judgement.outcome.is_early())
            .map_or(Vec::new(), GuestMemory::incomplete_lines);
        incomplete.iter().for_each(|line| listener.show_incomplete(line));
        let Listener { mut watch, facts, verdict, last, log, formatter, .. } = listener;
        let code = formatter.code;
        if judgement.outcome == Outcome::Pass {
            watch.finish(self.seed, self.options.rounds.into(), self.options.probes.into(), &facts.cpus);
        }
        if let Some(registers) = &ended.registers {
            eprint!("{}", code.named_registers(registers));
        }
        judgement.warnings.iter().for_each(|text| eprintln!("warning: {}", output::printable_lines(text)));
        let (mut outcome, mut problems) = conclude(&judgement, &watch.problems, &code);
        if let Err(error) = log.close() {
            outcome = worst([outcome, Outcome::Host].into_iter());
            problems.push(Error::file("write", &self.log, error).to_string());
        }
        let seconds = verdict.unwrap_or(last).as_secs_f64();
        Ok(Run { seed: self.seed, replay, outcome, seconds, problems, watch, facts })
    }

    fn listener(&self) -> Result<Listener<'_>, Error> {
        let log = Log::create(&self.log).map_err(|error| Error::file("write", &self.log, error))?;
        Ok(Listener {
            options: self.options,
            log,
            watch: Watch::default(),
            facts: Facts::default(),
            // The file that runs has no symbols; it differs from the build only in its random bytes.
            formatter: ConsoleFormatter::new(
                Code::of_command(&self.command_line(Wiring::Terminal)?).with_program(program::built()),
            ),
            verdict: None,
            last: Duration::ZERO,
        })
    }
}

/// Checks and logs the console, line by line.
struct Listener<'a> {
    options: &'a HostileOptions,
    log: Log,
    watch: Watch,
    facts: Facts,
    formatter: ConsoleFormatter,
    /// Time at which the kernel printed its verdict, since QEMU's start.
    verdict: Option<Duration>,
    /// Time at which the last line was received, since QEMU's start.
    last: Duration,
}

impl Listener<'_> {
    fn take(&mut self, line: &[u8], time: Duration) {
        self.log.line(line);
        let seen = self.facts.take(line);
        let kind = match seen {
            // After a panic record, the kernel prints registers and a backtrace. They are not checked.
            Line::Text if self.facts.panics.is_empty() => self.watch.take(line, time),
            _ => LineKind::Message,
        };
        if kind == LineKind::Message || self.options.verbose {
            self.formatter.format(line, &seen).iter().for_each(|text| print_line(self.options, text));
        }
        if !self.facts.verdicts.is_empty() {
            self.verdict.get_or_insert(time);
        }
        self.last = time;
    }

    /// Shows and logs a line that was incomplete when the run ended.
    fn show_incomplete(&mut self, line: &IncompleteLine) {
        let line = line.line();
        self.log.line(&line);
        print_line(self.options, &printable(&line));
    }
}

/// Combines the judgement on the run with the watch's problems. These explain a nonzero exit code of the program, so if
/// there are any, the exit code is not reported as well.
fn conclude(judgement: &Judgement, found: &[Problem], code: &Code) -> (Outcome, Vec<String>) {
    let outcome = match judgement.outcome {
        Outcome::Pass if !found.is_empty() => Outcome::Failed,
        outcome => outcome,
    };
    let found: Vec<_> = found.iter().map(|problem| code.named(&problem.to_string())).collect();
    let run = judgement.errors.iter().cloned();
    let problems = match outcome {
        Outcome::Failed if !found.is_empty() => found,
        // A panic or a timeout is listed first, because it causes the problems that the watch found.
        _ => run.chain(found).collect(),
    };
    (outcome, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_with_problem_is_failure() {
        let judged = |outcome, errors: &[&str]| Judgement {
            outcome,
            errors: errors.iter().map(|&error| error.to_owned()).collect(),
            warnings: Vec::new(),
        };
        let code = Code::of_command::<&str>(&[]);
        let conclude = |judgement: &Judgement, found: &[Problem]| conclude(judgement, found, &code);
        let found = [Problem::NoSummary { cpu: 1 }];
        let text = found[0].to_string();
        assert_eq!(conclude(&judged(Outcome::Pass, &[]), &[]), (Outcome::Pass, vec![]));
        assert_eq!(conclude(&judged(Outcome::Pass, &[]), &found), (Outcome::Failed, vec![text.clone()]));
        assert_eq!(
            conclude(&judged(Outcome::Failed, &["code 3"]), &found),
            (Outcome::Failed, vec![text.clone()])
        );
        assert_eq!(
            conclude(&judged(Outcome::Failed, &["killed"]), &[]),
            (Outcome::Failed, vec!["killed".to_owned()])
        );
        assert_eq!(
            conclude(&judged(Outcome::Panic, &["panicked"]), &found),
            (Outcome::Panic, vec!["panicked".to_owned(), text])
        );
    }
}
