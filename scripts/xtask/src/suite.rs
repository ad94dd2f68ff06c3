//! The subcommand `test`: runs every check and every QEMU case. Prints one line for each and a summary line.

use std::process::ExitCode;

use clap::Args;
use libtest_mimic::{Arguments, Failed, Trial};
use machine::build;
use machine::cargo::Show;
use machine::error::Error;

use crate::cases;
use crate::cases::TIME_LIMIT;
use crate::checks::{CHECKS, built};
use crate::logs::{file_name, log_folder};

/// Options of `test`.
#[derive(Args, Clone, Debug)]
pub struct TestOptions {
    /// Runs the tests whose names contain one of these words. Default: all.
    pub filter: Vec<String>,

    /// Lists the names without running the tests.
    #[arg(long)]
    pub list: bool,
}

/// Runs the tests that the filter selects. The last line is `N passed, N failed`.
pub fn run(options: &TestOptions) -> Result<ExitCode, Error> {
    let folder = log_folder();
    std::fs::create_dir_all(&folder).map_err(|error| Error::file("create", &folder, error))?;
    let selected = |trial: &Trial| {
        options.filter.is_empty() || options.filter.iter().any(|word| trial.name().contains(word.as_str()))
    };
    let trials: Vec<_> = checks().chain(qemu_cases()).filter(selected).collect();
    if trials.is_empty() {
        return Err(Error::Usage(format!("no test has {:?} in its name", options.filter.join(" or "))));
    }
    // Run one test at a time: a guest with more CPUs than the host has cores is slow even alone, and the checks share
    // cargo's lock.
    let arguments = Arguments { test_threads: Some(1), list: options.list, ..Arguments::default() };
    let conclusion = libtest_mimic::run(&arguments, trials);
    if options.list {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} passed, {} failed", conclusion.num_passed, conclusion.num_failed);
    Ok(if conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn checks() -> impl Iterator<Item = Trial> {
    CHECKS.iter().map(|check| {
        let log = log_folder().join(format!("{}.log", file_name(check.name)));
        Trial::test(check.name, move || (check.run)(&log).map_err(Failed::from))
    })
}

fn qemu_cases() -> impl Iterator<Item = Trial> {
    cases::all().into_iter().map(|case| {
        Trial::test(case.name.clone(), move || {
            built().map_err(|error| format!("the build failed: {error}"))?;
            let kernel = match case.features {
                [] => None,
                features => {
                    let features: Vec<_> = features.iter().map(|&feature| feature.to_owned()).collect();
                    let built = build::with_features(&features, Show::Trouble);
                    Some(built.map_err(|error| error.to_string())?.kernel)
                }
            };
            case.run(&log_folder(), kernel.as_deref(), TIME_LIMIT).map_err(Failed::from)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_logs_are_unique() {
        let names: Vec<_> = checks().chain(qemu_cases()).map(|trial| trial.name().to_owned()).collect();
        let logs: HashSet<_> = names.iter().map(|name| file_name(name)).collect();
        assert_eq!(logs.len(), names.len());
    }
}
