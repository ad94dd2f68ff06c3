//! `mutants --hostile`: checks that a short run of `hostile` detects certain mutants.

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use machine::build;
use machine::cargo::Show;
use machine::error::Error;
use machine::tree::{relative, root};
use output::println;

use super::kernels;
use super::table::find;

/// The options of the run. It has a fixed seed, and is long enough to detect each of the mutants.
const OPTIONS: &str = "--smp 4 --rounds 128 --probes 60 --seed 1 --timeout 120";

/// A mutant and the expected output of its detection.
pub struct Detection {
    /// The mutant's name.
    pub mutant: &'static str,
    /// The run must print one of these texts.
    pub reasons: &'static [&'static str],
}

const fn row(mutant: &'static str, reasons: &'static [&'static str]) -> Detection {
    Detection { mutant, reasons }
}

/// The mutants. Those of the system-call path come first.
pub const DETECTIONS: &[Detection] = &[
    row("sfmask-tf", &["#DB in ring 0"]),
    row("sfmask-nt", &["in ring 0"]),
    row("syscall-register-lost", &[": rdi; expected"]),
    row("syscall-gs-not-restored", &["in ring 0"]),
    row("syscall-number-unchecked", &["in ring 0"]),
    row("user-range-unchecked", &["in ring 0", "pointers: write"]),
    row("copy-without-fixup", &["page fault (#PF) in ring 0"]),
    row("trap-without-cld", &["panicked: ", "was reset", "unexpected: "]),
    row("trap-register-lost", &[": rdi; expected"]),
    row("tick-register-lost", &[": rdi; expected"]),
    row("tick-uses-xmm", &["an xmm register"]),
    row("paranoid-without-cld", &["panicked: ", "was reset", "unexpected: "]),
    row("paranoid-gs-not-restored", &["unexpected: ", "panicked: "]),
    row("debug-without-ist", &["panicked: ", "was reset"]),
    row("start-register-leaked", &["start: rdi"]),
    row("start-fpu-leaked", &["probe=start: "]),
    row("start-segments-leaked", &["start: ds"]),
    row("line-kept", &["unknown line"]),
    row("page-not-zeroed", &["start: zeroed memory", "start: initialised memory"]),
    row("x87-errors-external", &["faults: x87 exception"]),
    row("frame-leaked", &["frames were free"]),
];

/// Checks the named mutants, or all. Fails if any is not detected.
pub fn run(names: &[String]) -> Result<ExitCode, Error> {
    if let Some(name) =
        names.iter().find(|name| !DETECTIONS.iter().any(|detection| detection.mutant == **name))
    {
        let known = DETECTIONS.iter().map(|detection| detection.mutant).collect::<Vec<_>>().join(", ");
        return Err(Error::Usage(format!("no run of hostile detects {name:?}; it detects {known}")));
    }
    build::everything(Show::Slow)?;
    let logs = kernels::folder().join("logs/hostile");
    fs::create_dir_all(&logs).map_err(|error| Error::file("create", &logs, error))?;
    // The run must pass without a mutant.
    let (status, text) = run_hostile(None)?;
    if status != Some(0) {
        return Err(Error::Host(format!("the run fails without a mutant, with status {status:?}:\n{text}")));
    }
    let selected =
        |detection: &&Detection| names.is_empty() || names.iter().any(|name| name == detection.mutant);
    let mut missed = 0;
    for detection in DETECTIONS.iter().filter(selected) {
        let (status, text) = run_hostile(Some(detection.mutant))?;
        let log = logs.join(format!("{}.log", detection.mutant));
        output::write(&log, &text).map_err(|error| Error::file("write", &log, error))?;
        let line = text.lines().find(|line| detection.reasons.iter().any(|reason| line.contains(reason)));
        match (status, line) {
            (Some(1 | 3), Some(line)) => println!("found        {}: {}", detection.mutant, line.trim()),
            _ => {
                missed += 1;
                println!(
                    "NOT FOUND    {}: status {status:?}; see {}",
                    detection.mutant,
                    relative(&log).display()
                );
            }
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs `hostile`, and returns its exit status and output.
fn run_hostile(mutant: Option<&str>) -> Result<(Option<i32>, String), Error> {
    let build = |name| kernels::with(&[find(name)?], &[], Show::Trouble);
    let kernel = mutant.map(build).transpose()?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["hostile", "--as-built"]).args(OPTIONS.split(' '));
    if let Some(kernel) = &kernel {
        command.arg("--kernel").arg(kernel);
    }
    let output = command.stdin(Stdio::null()).current_dir(root()).output();
    let output = output.map_err(|error| Error::File("cannot start the host tool".to_owned(), error))?;
    if let Some(kernel) = kernel {
        // The file is large because it contains all symbols.
        let _ = fs::remove_file(kernel);
    }
    let texts = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Ok((output.status.code(), texts.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::table::MUTANTS;

    #[test]
    fn detections_name_mutants_and_are_on_the_page() {
        let page = fs::read_to_string(root().join("docs/hostile.md")).expect("cannot read the file");
        for detection in DETECTIONS {
            assert!(MUTANTS.iter().any(|mutant| mutant.name == detection.mutant), "{}", detection.mutant);
            let named = format!("`{}`", detection.mutant);
            assert!(page.contains(&named), "docs/hostile.md lacks {named}");
        }
    }
}
