//! `mutants --stress`: broken kernels that a stress campaign has to find, without knowing what to look for, and whose
//! failed boots fail again by the command that the campaign prints for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use machine::error::Error;
use machine::tree::{relative, root};

use super::kernels;

/// A mutant, and how it is found.
pub struct Hunt {
    /// Its name.
    pub mutant: &'static str,
    /// The campaign's options, less `--mutant`.
    pub options: &'static str,
    /// What the campaign says of the boot that failed.
    pub reason: &'static str,
}

/// Those of the road itself: a register, a stack, a flag.
pub const HUNTS: [Hunt; 3] = [
    Hunt {
        mutant: "syscall-register-lost",
        options: "--smp 4 --calls 20000 --seeds 1..4",
        reason: "expected rdi",
    },
    Hunt {
        mutant: "syscall-stack-shared",
        options: "--smp 4 --calls 20000 --seeds 1..4",
        reason: "the syscall stack's top is",
    },
    // A tick's own code uses no string instruction, so that ring 3's DF does no harm yet: the checking kernel looks.
    Hunt {
        mutant: "trap-without-cld",
        options: "--smp 4 --calls 20000 --seeds 1..4 --tick-hz 1000 --feature checking",
        reason: "set in ring 0: DIRECTION_FLAG",
    },
];

/// How a campaign ended.
struct Ended {
    status: Option<i32>,
    text: String,
}

impl Hunt {
    /// The campaign's command, as a user would give it.
    pub fn command(&self) -> String {
        format!("cargo xtask stress {} --mutant {}", self.options, self.mutant)
    }

    /// Runs the campaign without the mutant, with it, and then the replay command. The error says what is not as it
    /// should be; else the command that replays is given.
    fn run(&self, log: &Path) -> Result<String, String> {
        let _ = fs::remove_file(log);
        let without = stress(&format!("cargo xtask stress {}", self.options), log)?;
        if without.status != Some(0) {
            return Err(format!("the campaign fails without the mutant, status {:?}", without.status));
        }
        let found = stress(&self.command(), log)?;
        self.demand_found("the campaign", &found)?;
        let again = found.text.lines().find_map(|line| Some(line.split_once("again: ")?.1));
        let again = again.ok_or("the campaign says no command that replays")?;
        self.demand_found(again, &stress(again, log)?)?;
        Ok(again.to_owned())
    }

    fn demand_found(&self, who: &str, ended: &Ended) -> Result<(), String> {
        // A violation, or a panic; a time-out or a build that failed has found nothing.
        match ended.status {
            Some(1 | 3) if ended.text.contains(self.reason) => Ok(()),
            Some(1 | 3) => Err(format!("{who} fails, but {:?} is not among what it says", self.reason)),
            status => Err(format!("{who} ends with status {status:?}")),
        }
    }
}

/// Runs a command that begins with `cargo xtask`, by this tool, and adds what it says to the log.
fn stress(command: &str, log: &Path) -> Result<Ended, String> {
    let words = shlex::split(command).unwrap_or_default();
    let words = words.strip_prefix(&["cargo".to_owned(), "xtask".to_owned()]).ok_or("that is no xtask")?;
    let mut tool = Command::new("/proc/self/exe");
    let output = tool.args(words).stdin(Stdio::null()).current_dir(root()).output();
    let output = output.map_err(|error| format!("cannot start the host tool: {error}"))?;
    let said = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let text = said.concat();
    let before = fs::read_to_string(log).unwrap_or_default();
    fs::write(log, format!("{before}$ {command}\n{text}\n"))
        .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    Ok(Ended { status: output.status.code(), text })
}

/// Hunts those that are named, or all. Fails if one gets away.
pub fn run(names: &[String]) -> Result<ExitCode, Error> {
    if let Some(name) = names.iter().find(|name| !HUNTS.iter().any(|hunt| hunt.mutant == **name)) {
        let known = HUNTS.map(|hunt| hunt.mutant).join(", ");
        return Err(Error::Usage(format!("no campaign hunts {name:?}, but {known}")));
    }
    let folder = kernels::folder().join("logs");
    fs::create_dir_all(&folder).map_err(|error| Error::file("create", &folder, error))?;
    let wanted = |hunt: &&Hunt| names.is_empty() || names.iter().any(|name| name == hunt.mutant);
    let mut away = 0;
    for hunt in HUNTS.iter().filter(wanted) {
        let log: PathBuf = folder.join(format!("hunt-{}.log", hunt.mutant));
        match hunt.run(&log) {
            Ok(again) => println!("found        {}, and again by: {again}", hunt.mutant),
            Err(error) => {
                away += 1;
                println!("NOT FOUND    {}: {error}; see {}", hunt.mutant, relative(&log).display());
            }
        }
    }
    Ok(if away == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command as Subcommand};
    use crate::mutants::table::MUTANTS;

    #[test]
    fn every_hunt_is_of_a_mutant_and_its_command_is_one() {
        for hunt in &HUNTS {
            assert!(MUTANTS.iter().any(|mutant| mutant.name == hunt.mutant), "{}", hunt.mutant);
            let words = shlex::split(&hunt.command()).expect("words");
            let cli = Cli::try_parse_from(&words[1..]).expect("parses");
            assert!(matches!(cli.command, Subcommand::Stress(_)));
        }
    }

    #[test]
    fn the_page_has_every_hunt() {
        let page = fs::read_to_string(root().join("docs/stress.md")).expect("it can be read");
        for hunt in &HUNTS {
            let row = format!("| `{}` | `{}` | \"{}\" |", hunt.mutant, hunt.options, hunt.reason);
            assert!(page.contains(&row), "docs/stress.md lacks {row}");
        }
    }

    #[test]
    fn only_a_failure_for_the_right_reason_is_a_find() {
        let hunt = &HUNTS[0];
        let ended = |status, text: &str| Ended { status: Some(status), text: text.to_owned() };
        assert_eq!(hunt.demand_found("x", &ended(1, "expected rdi 0x1 got 0x2")), Ok(()));
        for (status, text) in
            [(0, "expected rdi"), (1, "expected rsi"), (4, "expected rdi"), (5, "expected rdi")]
        {
            assert!(hunt.demand_found("x", &ended(status, text)).is_err(), "{status} {text}");
        }
    }
}
