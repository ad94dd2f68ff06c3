//! The subcommand `hostile`: boots the program `hostile` with a seed, and checks that every probe (one attack on the
//! kernel) had its specified outcome on every CPU.
//!
//! See `docs/hostile.md`.

mod boot;
pub mod options;
mod problem;
mod program;
mod result;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use machine::error::Error;
use machine::qemu::Wiring;
use machine::quoting::shell_quoted;
use machine::verify::Outcome;
use output::{eprintln, printable_lines, println};

use self::boot::Boot;
use self::options::HostileOptions;
use self::result::Run;
use crate::stress::seeds::Seed;

/// Maximum number of problems that are printed. Further ones are only counted.
const PRINTED_MAX: usize = 20;

/// Runs the program and prints the result.
pub fn run(options: &HostileOptions) -> Result<ExitCode, Error> {
    let seed = options.seed.unwrap_or_else(Seed::random);
    let replay = options.replay(seed);
    let boot = Boot::make(options, seed)?;
    print_line(options, &format!("seed {seed}; reproduce with: {replay}"));
    print_line(options, &shell_quoted(&boot.command_line(Wiring::Terminal)?));
    let run = boot.run(replay)?;
    print_line(options, &format!("\n{}", run.table()));
    if let Some(coverage) = run.coverage() {
        print_line(options, &coverage);
    }
    for problem in run.problems.iter().take(PRINTED_MAX) {
        eprintln!("error: {}", printable_lines(problem));
    }
    if run.problems.len() > PRINTED_MAX {
        eprintln!("error: and {} more", run.problems.len() - PRINTED_MAX);
    }
    print_line(options, &run.verdict());
    if run.outcome != Outcome::Pass {
        eprintln!("reproduce with: {}", run.replay);
    }
    Ok(run.outcome.and_written(write_json(options, &run)).exit_code())
}

/// Prints to standard output, or to standard error if the JSON goes to standard output.
fn print_line(options: &HostileOptions, text: &str) {
    match &options.json {
        Some(path) if path == Path::new("-") => eprintln!("{text}"),
        _ => println!("{text}"),
    }
}

fn write_json(options: &HostileOptions, run: &Run) -> Result<(), Error> {
    let Some(path) = &options.json else { return Ok(()) };
    let text = format!("{:#}\n", run.json());
    output::write(path, text).map_err(|error| Error::file("write", path, error))
}
