//! One mutant's trial: the test without it, the build with it, the test with it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use machine::cargo::Show;
use machine::error::Error;
use machine::toolchain::host_cargo;
use machine::tree::relative;

use super::copy::Copy;
use super::kernels;
use super::mutant::{Mutant, Proof};
use crate::cases;
use crate::cases::Case;
use crate::logs::file_name;

/// Seconds that a QEMU case may take. A mutant may hang, and many cases end in less than one.
const CASE_LIMIT: u32 = 90;
/// The same for a test on the host, its build included.
const HOST_LIMIT: Duration = Duration::from_secs(600);

/// What became of a mutant.
pub enum Outcome {
    /// The test failed, and said this.
    Killed(String),
    /// The test passed.
    Survived,
    /// The test failed for another reason, or could not be run: what was said.
    NotJudged(String),
    /// There is no test.
    NotShown,
}

impl Outcome {
    /// Its place in the counts.
    pub fn place(&self) -> usize {
        match self {
            Outcome::Killed(_) => 0,
            Outcome::Survived => 1,
            Outcome::NotJudged(_) => 2,
            Outcome::NotShown => 3,
        }
    }

    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Killed(_) => "killed",
            Outcome::Survived => "SURVIVED",
            Outcome::NotJudged(_) => "WRONG REASON",
            Outcome::NotShown => "not shown",
        }
    }

    /// What is to be said of it.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Outcome::Killed(text) | Outcome::NotJudged(text) => Some(text),
            _ => None,
        }
    }
}

/// How a test ended: well, or with so much text.
type Ended = Result<(), String>;

/// Where mutants are tried, with what is known by now of the tests without them.
pub struct Laboratory {
    logs: PathBuf,
    cases: Vec<Case>,
    without: HashMap<String, Ended>,
}

impl Laboratory {
    /// An empty one, which keeps its logs in this folder.
    pub fn new(logs: PathBuf) -> Result<Laboratory, Error> {
        fs::create_dir_all(&logs).map_err(|error| Error::file("create", &logs, error))?;
        Ok(Laboratory { logs, cases: cases::all(), without: HashMap::new() })
    }

    /// Tries one.
    pub fn try_out(&mut self, mutant: &Mutant) -> Outcome {
        let reasons = match &mutant.proof {
            Proof::NotShown(_) => return Outcome::NotShown,
            Proof::Case(_, reasons) => reasons,
            Proof::Host(_, _, reason) | Proof::Loom(_, reason) | Proof::Compiler(reason) => {
                std::slice::from_ref(reason)
            }
        };
        let test = mutant.proof.test();
        if !self.without.contains_key(&test) {
            let ended = self.run(mutant, false);
            self.without.insert(test.clone(), ended);
        }
        if let Some(Err(text)) = self.without.get(&test) {
            return Outcome::NotJudged(format!(
                "the test fails without the mutant too:\n{}",
                beginning(text)
            ));
        }
        match self.run(mutant, true) {
            Ok(()) => Outcome::Survived,
            Err(text) => match reasons.iter().find_map(|reason| line_with(&text, reason)) {
                Some(line) => Outcome::Killed(line.trim().to_owned()),
                None => Outcome::NotJudged(beginning(&text)),
            },
        }
    }

    fn run(&self, mutant: &Mutant, mutated: bool) -> Ended {
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
                    "kernel",
                    "--lib",
                    "--release",
                    "--target-dir",
                ]);
                command.arg(kernels::folder().join("loom")).env("RUSTFLAGS", "--cfg loom");
                // The profile's link-time optimisation takes longer than the model.
                command.env("CARGO_PROFILE_RELEASE_LTO", "off");
                command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
                one_test(command, test, &folder)
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
            // Each has all symbols, and there are many.
            let _ = fs::remove_file(kernel);
        }
        let log = fs::read(folder.join(format!("{}.log", file_name(name)))).unwrap_or_default();
        ended.map_err(|error| format!("{error}\n{}", String::from_utf8_lossy(&log)))
    }
}

/// Runs the one test of this name, and sees to it that it was run.
fn one_test(mut command: Command, test: &str, folder: &Path) -> Ended {
    command.args(["--", "--exact", test]);
    let log = folder.join(format!("{}.log", file_name(test)));
    logged(command, &log)?;
    let text = fs::read_to_string(&log).unwrap_or_default();
    if text.contains("1 passed") { Ok(()) } else { Err(format!("no test was run\n{text}")) }
}

/// Runs a command to its end or to its time's, with all that it says in `log`, which is the text of an error.
fn logged(mut command: Command, log: &Path) -> Ended {
    let place = |error: std::io::Error| format!("cannot write {}: {error}", log.display());
    let file = File::create(log).map_err(place)?;
    let copy = file.try_clone().map_err(place)?;
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
                return Err(format!("it took too long; see {}", relative(log).display()));
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

/// Enough of a text to see what is wrong.
fn beginning(text: &str) -> String {
    text.lines().take(12).collect::<Vec<_>>().join("\n")
}
