//! Tests one mutant: runs the test without the mutant, builds the mutant, and runs the test on it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use machine::build;
use machine::cargo::Show;
use machine::error::Error;
use machine::toolchain::host_cargo;
use machine::tree::relative;

use super::copy::Copy;
use super::kernels;
use super::mutant::{Mutant, Proof};
use crate::cases;
use crate::cases::Case;
use crate::leaf_handlers;
use crate::logs::file_name;

/// The time limit of a QEMU case in seconds. It is lower than usual because a mutant may hang, and most cases take less
/// than a second.
const CASE_LIMIT: u32 = 90;
/// The time limit of a host test, including its build.
const HOST_LIMIT: Duration = Duration::from_secs(600);

/// The result of a trial.
pub enum Outcome {
    /// The test failed for the expected reason, which is in this output line.
    Killed(String),
    /// The test passed.
    Survived,
    /// The test failed for another reason, or could not be run. The text is its output.
    NotJudged(String),
    /// The guard has no test.
    NotShown,
}

impl Outcome {
    /// Returns the outcome's index in the counts.
    pub fn index(&self) -> usize {
        match self {
            Outcome::Killed(_) => 0,
            Outcome::Survived => 1,
            Outcome::NotJudged(_) => 2,
            Outcome::NotShown => 3,
        }
    }

    /// Returns the outcome's name in the output.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Killed(_) => "killed",
            Outcome::Survived => "SURVIVED",
            Outcome::NotJudged(_) => "WRONG REASON",
            Outcome::NotShown => "no test",
        }
    }

    /// Returns the output of the failed test.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Outcome::Killed(text) | Outcome::NotJudged(text) => Some(text),
            _ => None,
        }
    }
}

/// The result of a test. The error is the test's output.
type Ended = Result<(), String>;

/// Runs trials, and remembers the results of the tests without mutants.
pub struct Trials {
    logs: PathBuf,
    cases: Vec<Case>,
    without: HashMap<String, Ended>,
}

impl Trials {
    /// Creates the log directory.
    pub fn new(logs: PathBuf) -> Result<Trials, Error> {
        fs::create_dir_all(&logs).map_err(|error| Error::file("create", &logs, error))?;
        Ok(Trials { logs, cases: cases::all(), without: HashMap::new() })
    }

    /// Runs the trial of one mutant.
    pub fn run(&mut self, mutant: &Mutant) -> Outcome {
        let reasons = match &mutant.proof {
            Proof::NotShown(_) => return Outcome::NotShown,
            Proof::Case(_, reasons) => reasons,
            Proof::Host(_, _, reason)
            | Proof::Loom(_, reason)
            | Proof::LeafHandlers(reason)
            | Proof::Compiler(reason) => std::slice::from_ref(reason),
        };
        let test = mutant.proof.test();
        if !self.without.contains_key(&test) {
            let ended = self.run_test(mutant, false);
            self.without.insert(test.clone(), ended);
        }
        if let Some(Err(text)) = self.without.get(&test) {
            return Outcome::NotJudged(format!(
                "the test fails without the mutant too:\n{}",
                beginning(text)
            ));
        }
        match self.run_test(mutant, true) {
            Ok(()) => Outcome::Survived,
            Err(text) => match reasons.iter().find_map(|reason| line_with(&text, reason)) {
                Some(line) => Outcome::Killed(line.trim().to_owned()),
                None => Outcome::NotJudged(beginning(&text)),
            },
        }
    }

    fn run_test(&self, mutant: &Mutant, mutated: bool) -> Ended {
        let folder = self.logs.join(if mutated { mutant.name } else { "without" });
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mutants: &[&Mutant] = if mutated { &[mutant] } else { &[] };
        let copied_cargo = || -> Result<(Copy, Command), String> {
            let copy = kernels::copy(mutants).map_err(|error| error.to_string())?;
            let mut command = host_cargo();
            command.current_dir(copy.folder());
            Ok((copy, command))
        };
        match &mutant.proof {
            Proof::Case(name, _) => self.case(name, mutants, &folder),
            Proof::Host(package, test, _) => {
                let (_copy, mut command) = copied_cargo()?;
                command.args(["test", "--locked", "--package", package, "--lib", "--target-dir"]);
                command.arg(kernels::folder().join("host"));
                one_test(command, test, &folder)
            }
            Proof::Loom(test, _) => {
                let (_copy, mut command) = copied_cargo()?;
                command.args([
                    "test",
                    "--locked",
                    "--package",
                    "kernel_loom",
                    "--lib",
                    "--release",
                    "--target-dir",
                ]);
                command.arg(kernels::folder().join("loom"));
                // The profile's link-time optimisation would take longer than the model.
                command.env("CARGO_PROFILE_RELEASE_LTO", "off");
                command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
                one_test(command, test, &folder)
            }
            Proof::LeafHandlers(_) => {
                let kernel = if mutated {
                    kernels::with(mutants, &[], Show::Trouble)
                } else {
                    build::everything(Show::Trouble).map(|built| built.kernel)
                };
                let kernel = kernel.map_err(|error| error.to_string())?;
                let found = leaf_handlers::violations(&kernel).map_err(|error| error.to_string())?;
                if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
            }
            Proof::Compiler(_) => {
                let (_copy, mut command) = copied_cargo()?;
                command.args(["check", "--locked", "--package", "kernel", "--lib", "--target-dir"]);
                command.arg(kernels::folder().join("host"));
                logged(command, &folder.join("compiler.log"))
            }
            Proof::NotShown(_) => Ok(()),
        }
    }

    fn case(&self, name: &str, mutants: &[&Mutant], folder: &Path) -> Ended {
        let case = self.cases.iter().find(|case| case.name == name).ok_or("there is no such case")?;
        let kernel = match (case.features, mutants) {
            ([], []) => None,
            (features, _) => {
                let built = kernels::with(mutants, features, Show::Trouble);
                Some(built.map_err(|error| error.to_string())?)
            }
        };
        let ended = case.run(folder, kernel.as_deref(), CASE_LIMIT);
        if let Some(kernel) = kernel.filter(|_| !mutants.is_empty()) {
            // The file is large because it contains all symbols.
            let _ = fs::remove_file(kernel);
        }
        let log = fs::read(folder.join(format!("{}.log", file_name(name)))).unwrap_or_default();
        ended.map_err(|error| format!("{error}\n{}", String::from_utf8_lossy(&log)))
    }
}

/// Runs the test of this name, and checks that exactly one test ran.
fn one_test(mut command: Command, test: &str, folder: &Path) -> Ended {
    command.args(["--", "--exact", test]);
    let log = folder.join(format!("{}.log", file_name(test)));
    logged(command, &log)?;
    let text = fs::read_to_string(&log).unwrap_or_default();
    if text.contains("1 passed") { Ok(()) } else { Err(format!("no test was run\n{text}")) }
}

/// Runs a command until it exits or exceeds the time limit. Its output goes to `log`; the error contains the output.
fn logged(mut command: Command, log: &Path) -> Ended {
    let fail = |error: std::io::Error| format!("cannot write {}: {error}", log.display());
    let file = output::create(log).map_err(fail)?;
    let copy = file.try_clone().map_err(fail)?;
    let child = command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn();
    let mut child = child.map_err(|error| format!("cannot start cargo: {error}"))?;
    let until = Instant::now() + HOST_LIMIT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "the test exceeded its time limit of {} s; see {}",
                    HOST_LIMIT.as_secs(),
                    relative(log).display()
                ));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned())
}

fn line_with<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    text.lines().find(|line| line.contains(part))
}

/// Returns the first lines of a text.
fn beginning(text: &str) -> String {
    text.lines().take(12).collect::<Vec<_>>().join("\n")
}
