//! The subcommand `mutants`: builds kernels that each lack one guard, and checks that the guard's test fails on them.
//!
//! A guard is untested if no test fails without it. [`edits`] lists the source edits that remove each guard, and
//! [`table`] names the test that must then fail and the expected failure message. The test must first pass without the
//! edits. The edits are applied to a [`copy`] of the tree.

mod copy;
mod cost;
mod edits;
mod hazards;
mod hostile;
mod kernels;
mod markdown;
mod mutant;
mod stress;
mod table;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use machine::build;
use machine::cargo::Show;
use machine::error::Error;
use mutant::{Mutant, Proof};
use output::{print, println};
use table::{MUTANTS, find};
use trial::Trials;

/// Options of `mutants`.
#[derive(Args, Clone, Debug)]
pub struct MutantOptions {
    /// The mutants to test, by name. Default: all.
    pub names: Vec<String>,

    /// Checks that stress campaigns detect certain mutants, and replays the failures.
    #[arg(long)]
    pub stress: bool,

    /// Checks that a run of `hostile` detects the mutants whose effects ring 3 can observe.
    #[arg(long, conflicts_with = "stress")]
    pub hostile: bool,

    /// Only lists the mutants and the tests that must fail.
    #[arg(long)]
    pub list: bool,

    /// Only prints the cost of the guards on the system-call path, in instructions.
    #[arg(long)]
    pub cost: bool,

    /// Only prints the tables of docs/security.md.
    #[arg(long, hide = true)]
    pub hazards: bool,

    /// Only prints the table of docs/mutants.md.
    #[arg(long, hide = true)]
    pub markdown: bool,
}

/// Tests the named mutants, or all. Fails if a test passes, or fails for an unexpected reason.
pub fn run(options: &MutantOptions) -> Result<ExitCode, Error> {
    if options.hazards {
        print!("{}", hazards::markdown());
        return Ok(ExitCode::SUCCESS);
    }
    if options.markdown {
        print!("{}", markdown::table());
        return Ok(ExitCode::SUCCESS);
    }
    if options.cost {
        cost::print()?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.stress {
        return stress::run(&options.names);
    }
    if options.hostile {
        return hostile::run(&options.names);
    }
    let selected = selected(&options.names)?;
    if options.list {
        selected.iter().for_each(|mutant| println!("{}", line("", mutant)));
        return Ok(ExitCode::SUCCESS);
    }
    build::everything(Show::Slow)?;
    let mut trials = Trials::new(kernels::folder().join("logs"))?;
    let mut counts = [0; 4];
    for mutant in selected {
        let started = Instant::now();
        let outcome = trials.run(mutant);
        counts[outcome.index()] += 1;
        println!("{} ({:.0} s)", line(outcome.word(), mutant), started.elapsed().as_secs_f32());
        if let Some(detail) = outcome.detail() {
            detail.lines().for_each(|line| println!("    {line}"));
        }
    }
    let [killed, survived, wrong, not_shown] = counts;
    println!("{killed} killed, {survived} survived, {wrong} inconclusive, {not_shown} without a test");
    Ok(if survived + wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn selected(names: &[String]) -> Result<Vec<&'static Mutant>, Error> {
    if names.is_empty() {
        return Ok(MUTANTS.iter().collect());
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(Error::Usage(format!("the mutant {name} is given twice")));
        }
    }
    names.iter().map(|name| find(name)).collect()
}

/// Builds the kernel selected by `--mutant` and `--feature`, and returns its path. If `as_built`, uses the last build.
pub fn kernel(names: &[String], features: &[String], as_built: bool) -> Result<PathBuf, Error> {
    let mutants = selected(names)?;
    let features: Vec<_> = features.iter().map(String::as_str).collect();
    if as_built {
        let path = kernels::path(&mutants, &features);
        if !path.exists() {
            let what = names.join(" and ");
            return Err(Error::Usage(format!("the kernel with {what} was never built: remove --as-built")));
        }
        return Ok(path);
    }
    build::everything(Show::Slow)?;
    kernels::with(&mutants, &features, Show::Slow)
}

/// Checks that there are mutants with these names.
pub fn check_names(names: &[String]) -> Result<(), Error> {
    names.iter().try_for_each(|name| find(name).map(drop))
}

/// The mutants that `check::mutants` compiles. They cover assembly, a constant in the kernel's library, and the
/// trampoline.
const SAMPLE: [&str; 3] = ["paranoid-trusts-cs", "trace-reserve-non-atomic", "claim-without-lock"];

/// Builds a kernel with the edits of [`SAMPLE`]. That the edits of all other mutants apply is checked by a host test.
pub fn check() -> Result<(), Error> {
    let mutants = SAMPLE.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    let kernel = kernels::with(&mutants, &[], Show::Trouble)?;
    std::fs::remove_file(&kernel).map_err(|error| Error::file("remove", &kernel, error))
}

/// Formats the output line of a mutant.
fn line(word: &str, mutant: &Mutant) -> String {
    let test = match mutant.proof {
        Proof::NotShown(because) => format!("no test: {because}"),
        _ => mutant.proof.test(),
    };
    let word = if word.is_empty() { String::new() } else { format!("{word:12} ") };
    format!("{word}{:28} {test}", mutant.name)
}
