//! The subcommand `mutants`: kernels that each lack one guard, and the tests that must fail on them.
//!
//! A guard that no test misses is a guard of which nobody knows that it works. So each has a cargo feature of the
//! kernel that takes it away, and a row in [`table`] with the test that is there for it and the reason for which that
//! test must then fail. The test has to pass without the feature first.

mod cost;
mod hazards;
mod hostile;
mod hunts;
mod kernels;
mod markdown;
mod table;
mod trial;

use std::process::ExitCode;
use std::time::Instant;

use crate::build;
use crate::cargo::Show;
use crate::cli::MutantOptions;
use crate::error::Error;
use table::MUTANTS;
use trial::Laboratory;

/// A guard, and how to see that it is missed.
pub struct Mutant {
    /// The kernel's cargo feature that takes it away, less `mutant-`.
    pub name: &'static str,
    /// The guard.
    pub guard: &'static str,
    /// The test that fails without it.
    pub proof: Proof,
}

/// How a missing guard is noticed.
pub enum Proof {
    /// This QEMU case fails, and one of the texts is in what it says or in its log.
    Case(&'static str, &'static [&'static str]),
    /// This test of this crate fails on the host, and says the text.
    Host(&'static str, &'static str, &'static str),
    /// As `Host`, in the kernel's library under loom.
    Loom(&'static str, &'static str),
    /// The kernel does not compile, and the compiler says the text.
    Compiler(&'static str),
    /// Nothing here can show it, for this reason.
    NotShown(&'static str),
}

impl Mutant {
    /// The cargo feature.
    pub fn feature(&self) -> String {
        format!("mutant-{}", self.name)
    }
}

impl Proof {
    /// The test's name, as a reader would look for it.
    pub fn test(&self) -> String {
        match self {
            Proof::Case(name, _) => (*name).to_owned(),
            Proof::Host(package, test, _) => format!("{test} ({package})"),
            Proof::Loom(test, _) => format!("{test} (kernel)"),
            Proof::Compiler(_) => "compiling the kernel".to_owned(),
            Proof::NotShown(_) => "none".to_owned(),
        }
    }
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
    let find = |name: &String| {
        let plain = name.strip_prefix("mutant-").unwrap_or(name);
        let found = MUTANTS.iter().find(|mutant| mutant.name == plain);
        found.ok_or_else(|| Error::Usage(format!("there is no mutant {name:?}; see --list")))
    };
    names.iter().map(find).collect()
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
