//! The subcommand `mutants`: kernels that each lack one guard, and the tests that must fail on them.
//!
//! A guard that no test misses is a guard of which nobody knows that it works. So each has edits of the source that
//! take it away, in [`edits`], and a row in [`table`] with the test that is there for it and the reason for which that
//! test must then fail. The test has to pass without the edits first. They are made in a [`copy`] of the tree.

mod copy;
mod cost;
mod edits;
mod hazards;
mod hostile;
mod hunts;
mod kernels;
mod markdown;
mod mutant;
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
use table::{MUTANTS, find};
use trial::Laboratory;

/// Options of `mutants`.
#[derive(Args, Clone, Debug)]
pub struct MutantOptions {
    /// The guards to take away, by name. Default: all.
    pub names: Vec<String>,

    /// Lets stress campaigns find those that are there for it, and replays what they found.
    #[arg(long)]
    pub stress: bool,

    /// Lets a run of `hostile` find those that ring 3 can make show.
    #[arg(long, conflicts_with = "stress")]
    pub hostile: bool,

    /// Lists them, with the test that is to fail, and does nothing else.
    #[arg(long)]
    pub list: bool,

    /// Prints what the guards on a system call's road cost, in instructions, and does nothing else.
    #[arg(long)]
    pub cost: bool,

    /// Prints the tables of docs/security.md and does nothing else.
    #[arg(long, hide = true)]
    pub hazards: bool,

    /// Prints the table of docs/mutants.md and does nothing else.
    #[arg(long, hide = true)]
    pub markdown: bool,
}

/// Runs those that are named, or all. Fails if one is not noticed, or for another reason than its own.
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
        return hunts::run(&options.names);
    }
    if options.hostile {
        return hostile::run(&options.names);
    }
    let chosen = chosen(&options.names)?;
    if options.list {
        chosen.iter().for_each(|mutant| println!("{}", line("", mutant)));
        return Ok(ExitCode::SUCCESS);
    }
    build::everything(Show::Slow)?;
    let mut laboratory = Laboratory::new(kernels::folder().join("logs"))?;
    let mut counts = [0; 4];
    for mutant in chosen {
        let started = Instant::now();
        let outcome = laboratory.try_out(mutant);
        counts[outcome.place()] += 1;
        println!("{} ({:.0} s)", line(outcome.word(), mutant), started.elapsed().as_secs_f32());
        if let Some(detail) = outcome.detail() {
            detail.lines().for_each(|line| println!("    {line}"));
        }
    }
    let [killed, survived, wrong, not_shown] = counts;
    println!("{killed} killed, {survived} survived, {wrong} not judged, {not_shown} not shown here");
    Ok(if survived + wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Mutant>, Error> {
    if names.is_empty() {
        return Ok(MUTANTS.iter().collect());
    }
    names.iter().map(|name| find(name)).collect()
}

/// The kernel that a user asks for with `--mutant` and `--feature`: built, or where it was built last.
pub fn kernel(names: &[String], features: &[String], as_built: bool) -> Result<PathBuf, Error> {
    let mutants = chosen(names)?;
    let features: Vec<_> = features.iter().map(String::as_str).collect();
    if as_built {
        return Ok(kernels::path(&mutants, &features));
    }
    build::everything(Show::Slow)?;
    kernels::with(&mutants, &features, Show::Slow)
}

/// Mutants that `check::mutants` compiles: assembly, a constant of the kernel's library, and the trampoline.
const SAMPLE: [&str; 3] = ["paranoid-trusts-cs", "trace-place-in-two-steps", "claim-without-lock"];

/// Builds some of them, all edits at once. That each applies is a test of the tool's.
pub fn check() -> Result<(), Error> {
    let mutants = SAMPLE.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    let kernel = kernels::with(&mutants, &[], Show::Trouble)?;
    std::fs::remove_file(&kernel).map_err(|error| Error::file("remove", &kernel, error))
}

/// A mutant's line in what `run` prints.
fn line(word: &str, mutant: &Mutant) -> String {
    let test = match mutant.proof {
        Proof::NotShown(because) => format!("not shown here: {because}"),
        _ => mutant.proof.test(),
    };
    let word = if word.is_empty() { String::new() } else { format!("{word:12} ") };
    format!("{word}{:28} {test}", mutant.name)
}
