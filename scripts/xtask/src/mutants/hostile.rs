//! `mutants --hostile`: broken kernels that a short run of `hostile` has to find, without knowing what is missing.

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use machine::build;
use machine::cargo::Show;
use machine::error::Error;
use machine::tree::{relative, root};

use super::kernels;
use super::table::find;

/// The hunt: long enough for each of them, with a seed that is always the same.
const OPTIONS: &str = "--smp 4 --rounds 128 --probes 60 --seed 1 --timeout 120";

/// A mutant, and how it is found.
pub struct Prey {
    /// Its name.
    pub mutant: &'static str,
    /// What the hunt says of it: one of these.
    pub reasons: &'static [&'static str],
}

const fn prey(mutant: &'static str, reasons: &'static [&'static str]) -> Prey {
    Prey { mutant, reasons }
}

/// Along the road, then the machine around it.
pub const PREY: &[Prey] = &[
    prey("sfmask-tf", &["#DB in ring 0"]),
    prey("sfmask-nt", &["in ring 0"]),
    prey("syscall-register-lost", &[": rdi; expected"]),
    prey("syscall-gs-not-restored", &["in ring 0"]),
    prey("syscall-number-unchecked", &["numbers: system call"]),
    prey("user-range-unchecked", &["in ring 0", "pointers: write"]),
    prey("copy-without-fixup", &["page fault (#PF) in ring 0"]),
    prey("trap-without-cld", &["panicked: ", "was reset", "unexpected: "]),
    prey("trap-register-lost", &[": rdi; expected"]),
    prey("tick-uses-xmm", &["an xmm register"]),
    prey("paranoid-without-cld", &["panicked: ", "was reset", "unexpected: "]),
    prey("paranoid-gs-not-restored", &["unexpected: ", "panicked: "]),
    prey("debug-without-ist", &["panicked: ", "was reset"]),
    prey("start-register-leaked", &["start: rdi"]),
    prey("start-fpu-leaked", &["probe=start: "]),
    prey("start-segments-leaked", &["start: ds"]),
    prey("line-kept", &["unknown line"]),
    prey("page-not-zeroed", &["start: zeroed memory", "start: initialised memory"]),
    prey("x87-errors-external", &["faults: x87 exception"]),
    prey("frame-leaked", &["frames were free"]),
];

/// Hunts those that are named, or all. Fails if one gets away.
pub fn run(names: &[String]) -> Result<ExitCode, Error> {
    if let Some(name) = names.iter().find(|name| !PREY.iter().any(|prey| prey.mutant == **name)) {
        let known = PREY.iter().map(|prey| prey.mutant).collect::<Vec<_>>().join(", ");
        return Err(Error::Usage(format!("no run of hostile hunts {name:?}, but {known}")));
    }
    build::everything(Show::Slow)?;
    let logs = kernels::folder().join("logs/hostile");
    fs::create_dir_all(&logs).map_err(|error| Error::file("create", &logs, error))?;
    // What finds something in the kernel as it is finds nothing.
    let (status, text) = hunt(None)?;
    if status != Some(0) {
        return Err(Error::Host(format!("the hunt fails without a mutant, with status {status:?}:\n{text}")));
    }
    let wanted = |prey: &&Prey| names.is_empty() || names.iter().any(|name| name == prey.mutant);
    let mut away = 0;
    for prey in PREY.iter().filter(wanted) {
        let (status, text) = hunt(Some(prey.mutant))?;
        let log = logs.join(format!("{}.log", prey.mutant));
        fs::write(&log, &text).map_err(|error| Error::file("write", &log, error))?;
        let line = text.lines().find(|line| prey.reasons.iter().any(|reason| line.contains(reason)));
        match (status, line) {
            (Some(1 | 3), Some(line)) => println!("found        {}: {}", prey.mutant, line.trim()),
            _ => {
                away += 1;
                println!("NOT FOUND    {}: status {status:?}; see {}", prey.mutant, relative(&log).display());
            }
        }
    }
    Ok(if away == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the hunt, and returns its exit status with all that it says.
fn hunt(mutant: Option<&str>) -> Result<(Option<i32>, String), Error> {
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
        // Each has all symbols, and there are many.
        let _ = fs::remove_file(kernel);
    }
    let said = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Ok((output.status.code(), said.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::table::MUTANTS;

    #[test]
    fn the_prey_are_mutants_and_the_page_has_them() {
        let page = fs::read_to_string(root().join("docs/hostile.md")).expect("it can be read");
        for prey in PREY {
            assert!(MUTANTS.iter().any(|mutant| mutant.name == prey.mutant), "{}", prey.mutant);
            let named = format!("`{}`", prey.mutant);
            assert!(page.contains(&named), "docs/hostile.md lacks {named}");
        }
    }
}
