//! The subcommand `hostile`: boots the program of that name with a seed, and looks whether every probe ended as it has
//! to, on every CPU, to the end.
//!
//! `docs/hostile.md` is the book about it.

mod boot;
pub mod options;
mod problem;
mod program;
mod result;
mod watch;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use machine::error::Error;
use machine::qemu::{Wiring, shell_quoted};
use machine::verify::Outcome;

use self::boot::Boot;
use self::options::HostileOptions;
use self::result::Run;
use crate::stress::seeds::Seed;

/// Problems that are told one by one.
const TOLD: usize = 20;

/// Runs, and tells.
pub fn run(options: &HostileOptions) -> Result<ExitCode, Error> {
    let seed = options.seed.unwrap_or_else(Seed::random);
    let replay = options.replay(seed);
    say(options, &format!("seed {seed}; again: {replay}"));
    let boot = Boot::make(options, seed)?;
    say(options, &shell_quoted(&boot.command_line(Wiring::Terminal)));
    let run = boot.run(replay)?;
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
