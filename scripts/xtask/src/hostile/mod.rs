//! The subcommand `hostile`: boots the program of that name with a seed, and looks whether every probe ended as it has
//! to, on every CPU, to the end.
//!
//! `docs/hostile.md` is the book about it.

pub mod options;
mod problem;
mod program;
mod result;
mod watch;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use self::options::HostileOptions;
use self::problem::Problem;
use self::program::PROGRAM;
use self::result::Run;
use self::watch::{Said, Watch};
use crate::cargo::Show;
use crate::error::Error;
use crate::facts::{Facts, Line};
use crate::qemu::{Machine, Wiring, shell_quoted};
use crate::run::judgement;
use crate::screen::Words;
use crate::stress::seeds::Seed;
use crate::tree::{relative, root};
use crate::verify::{Judgement, Outcome};
use crate::{build, cmdline, session};

/// Problems that are told one by one.
const TOLD: usize = 20;

/// Runs, and tells.
pub fn run(options: &HostileOptions) -> Result<ExitCode, Error> {
    let seed = options.seed.unwrap_or_else(Seed::random);
    let replay = options.replay(seed);
    say(options, &format!("seed {seed}; again: {replay}"));
    let run = boot(options, seed, replay)?;
    say(options, &format!("\n{}", run.table()));
    if let Some(coverage) = run.coverage() {
        say(options, &coverage);
    }
    for problem in run.problems.iter().take(TOLD) {
        eprintln!("error: {problem}");
    }
    if run.problems.len() > TOLD {
        eprintln!("error: and {} more", run.problems.len() - TOLD);
    }
    say(options, &run.verdict());
    if run.outcome != Outcome::Pass {
        eprintln!("again: {}", run.replay);
    }
    write_json(options, &run)?;
    Ok(run.outcome.exit_code())
}

/// Standard output is the JSON's if that is wanted there.
fn say(options: &HostileOptions, text: &str) {
    match &options.json {
        Some(path) if path == Path::new("-") => eprintln!("{text}"),
        _ => println!("{text}"),
    }
}

fn write_json(options: &HostileOptions, run: &Run) -> Result<(), Error> {
    let Some(path) = &options.json else { return Ok(()) };
    let text = format!("{:#}\n", run.json());
    if path == Path::new("-") {
        // Whoever closed the pipe does not want it.
        let _ = std::io::stdout().write_all(text.as_bytes());
        return Ok(());
    }
    std::fs::write(path, text).map_err(|error| Error::file("write", path, error))
}

/// One boot, watched to its end and judged.
fn boot(options: &HostileOptions, seed: Seed, replay: String) -> Result<Run, Error> {
    if options.machine.serial_dir.is_some() {
        return Err(Error::Usage(
            "hostile reads all lines from one console: leave out --serial-dir".to_owned(),
        ));
    }
    let kernel = match &options.kernel {
        Some(kernel) => kernel.clone(),
        None if options.as_built => build::featured_kernel_path(&options.feature),
        None => build::with_features(&options.feature, Show::Slow)?.kernel,
    };
    let folder = root().join(format!("target/hostile/{seed}"));
    let module = program::write(&folder, seed)?;
    let machine = options.machine();
    let arguments = ["--seed", &seed.to_string(), "--probes", &options.probes.to_string()].map(str::to_owned);
    let cmdline = cmdline::compose(Some(PROGRAM), machine.tick_hz, Some(&options.kernel_keys()), &arguments);
    let machine = Machine {
        options: &machine,
        kernel: &kernel,
        module: Some(relative(&module)),
        cmdline: &cmdline,
        gdb_port: None,
    };
    say(options, &shell_quoted(&machine.command_line(Wiring::Terminal)));
    let log = options.log.clone().unwrap_or_else(|| folder.join("console.log"));
    let file = File::create(&log).map_err(|error| Error::file("write", &log, error))?;
    let mut file = BufWriter::new(file);
    let (mut watch, mut facts, mut words) = (Watch::default(), Facts::default(), Words::new(&kernel));
    let (mut verdict, mut last) = (None, Duration::ZERO);
    let limit = Some(options.seconds()).filter(|seconds| *seconds != 0).map(Duration::from_secs);
    let ended = session::run(&machine.command_line(Wiring::Session), limit, &[], |line, time| {
        // A full disk costs the log, not the run.
        let _ = file.write_all(line).and_then(|()| file.write_all(b"\n"));
        let seen = facts.take(line);
        let said = match seen {
            // A panic's registers and backtrace are nobody's lines.
            Line::Text if facts.panics.is_empty() => watch.take(line, time),
            _ => Said::Word,
        };
        if said == Said::Word || options.verbose {
            words.of(line, &seen).iter().for_each(|text| say(options, text));
        }
        if !facts.verdicts.is_empty() {
            verdict.get_or_insert(time);
        }
        last = time;
    })?;
    let judgement = judgement(&ended, &facts);
    if judgement.outcome == Outcome::Pass {
        watch.finish(seed, options.rounds.into(), options.probes.into(), &facts.cpus);
    }
    if let Some(registers) = &ended.registers {
        eprint!("{registers}");
    }
    judgement.warnings.iter().for_each(|text| eprintln!("warning: {text}"));
    let (outcome, problems) = conclude(&judgement, &watch.problems);
    let seconds = verdict.unwrap_or(last).as_secs_f64();
    Ok(Run { seed, replay, outcome, seconds, problems, watch, facts })
}

/// The outcome, and all that is wrong: what a copy found explains why it did not exit with code 0.
fn conclude(judgement: &Judgement, found: &[Problem]) -> (Outcome, Vec<String>) {
    let outcome = match judgement.outcome {
        Outcome::Pass if !found.is_empty() => Outcome::Failed,
        outcome => outcome,
    };
    let found: Vec<_> = found.iter().map(Problem::to_string).collect();
    let run = judgement.errors.iter().cloned();
    let problems = match outcome {
        Outcome::Failed if !found.is_empty() => found,
        // A panic is the cause of what came after it.
        _ => run.chain(found).collect(),
    };
    (outcome, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_with_a_problem_is_a_failure() {
        let judged = |outcome, errors: &[&str]| Judgement {
            outcome,
            errors: errors.iter().map(|&error| error.to_owned()).collect(),
            warnings: Vec::new(),
        };
        let found = [Problem::NotDone { cpu: 1 }];
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
