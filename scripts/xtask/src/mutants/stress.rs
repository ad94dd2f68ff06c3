//! `mutants --stress`: checks that stress campaigns detect certain mutants, and that the printed replay command
//! reproduces the failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use machine::error::Error;
use machine::tree::{relative, root};
use output::println;

use super::kernels;

/// A mutant and the campaign that detects it.
pub struct Detection {
    /// The mutant's name.
    pub mutant: &'static str,
    /// The campaign's options without `--mutant`.
    pub options: &'static str,
    /// The text that the campaign prints for the failed boot.
    pub reason: &'static str,
}

/// Mutants of the system-call and interrupt paths. They affect a register, a stack and a flag.
pub const DETECTIONS: [Detection; 3] = [
    Detection {
        mutant: "syscall-register-lost",
        options: "--smp 4 --calls 20000 --seeds 1..4",
        reason: "expected rdi",
    },
    Detection {
        mutant: "syscall-stack-shared",
        options: "--smp 4 --calls 20000 --seeds 1..4",
        reason: "the syscall stack's top is",
    },
    // The tick handler uses no string instruction, so ring 3's DF has no effect. The `checking` kernel tests the flag
    // itself.
    Detection {
        mutant: "tick-without-cld",
        options: "--smp 4 --calls 20000 --seeds 1..4 --tick-hz 1000 --feature checking",
        reason: "set in ring 0: DIRECTION_FLAG",
    },
];

/// The exit status and output of a campaign.
struct Ended {
    status: Option<i32>,
    text: String,
}

impl Detection {
    /// Returns the campaign's command as a user would type it.
    pub fn command(&self) -> String {
        format!("cargo xtask stress {} --mutant {}", self.options, self.mutant)
    }

    /// Runs the campaign without the mutant, then with it, then the printed replay command. Returns the replay command.
    fn run(&self, log: &Path) -> Result<String, String> {
        let _ = fs::remove_file(log);
        let without = stress(&format!("cargo xtask stress {}", self.options), log)?;
        if without.status != Some(0) {
            return Err(format!("the campaign fails without the mutant, status {:?}", without.status));
        }
        let found = stress(&self.command(), log)?;
        self.check_detected("the campaign", &found)?;
        let replay = found.text.lines().find_map(|line| Some(line.split_once("reproduce with: ")?.1));
        let replay = replay.ok_or("the campaign printed no replay command")?;
        self.check_detected(replay, &stress(replay, log)?)?;
        Ok(replay.to_owned())
    }

    fn check_detected(&self, who: &str, ended: &Ended) -> Result<(), String> {
        // Only a violation or a panic counts as a detection. A timeout or a failed build does not.
        match ended.status {
            Some(1 | 3) if ended.text.contains(self.reason) => Ok(()),
            Some(1 | 3) => Err(format!("{who} fails, but its output does not contain {:?}", self.reason)),
            status => Err(format!("{who} ends with status {status:?}")),
        }
    }
}

/// Runs a `cargo xtask` command with this executable, and appends its output to the log.
fn stress(command: &str, log: &Path) -> Result<Ended, String> {
    let words = shlex::split(command).unwrap_or_default();
    let words = words
        .strip_prefix(&["cargo".to_owned(), "xtask".to_owned()])
        .ok_or("the command does not begin with `cargo xtask`")?;
    let mut tool = Command::new("/proc/self/exe");
    let output = tool.args(words).stdin(Stdio::null()).current_dir(root()).output();
    let output = output.map_err(|error| format!("cannot start the host tool: {error}"))?;
    let texts = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let text = texts.concat();
    let before = fs::read_to_string(log).unwrap_or_default();
    output::write(log, format!("{before}$ {command}\n{text}\n"))
        .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    Ok(Ended { status: output.status.code(), text })
}

/// Checks the named mutants, or all. Fails if any is not detected.
pub fn run(names: &[String]) -> Result<ExitCode, Error> {
    if let Some(name) =
        names.iter().find(|name| !DETECTIONS.iter().any(|detection| detection.mutant == **name))
    {
        let known = DETECTIONS.map(|detection| detection.mutant).join(", ");
        return Err(Error::Usage(format!(
            "there is no campaign for {name:?}; the mutants with a campaign are {known}"
        )));
    }
    let folder = kernels::folder().join("logs");
    fs::create_dir_all(&folder).map_err(|error| Error::file("create", &folder, error))?;
    let selected =
        |detection: &&Detection| names.is_empty() || names.iter().any(|name| name == detection.mutant);
    let mut missed = 0;
    for detection in DETECTIONS.iter().filter(selected) {
        let log: PathBuf = folder.join(format!("stress-{}.log", detection.mutant));
        match detection.run(&log) {
            Ok(replay) => println!("found        {}; reproduced by: {replay}", detection.mutant),
            Err(error) => {
                missed += 1;
                println!("NOT FOUND    {}: {error}; see {}", detection.mutant, relative(&log).display());
            }
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command as Subcommand};
    use crate::mutants::table::MUTANTS;

    #[test]
    fn detections_name_mutants_and_their_commands_parse() {
        for detection in &DETECTIONS {
            assert!(MUTANTS.iter().any(|mutant| mutant.name == detection.mutant), "{}", detection.mutant);
            let words = shlex::split(&detection.command()).expect("cannot split into words");
            let cli = Cli::try_parse_from(&words[1..]).expect("cannot parse");
            assert!(matches!(cli.command, Subcommand::Stress(_)));
        }
    }

    #[test]
    fn page_has_every_detection() {
        let page = fs::read_to_string(root().join("docs/stress.md")).expect("cannot read the file");
        for detection in &DETECTIONS {
            let row =
                format!("| `{}` | `{}` | \"{}\" |", detection.mutant, detection.options, detection.reason);
            assert!(page.contains(&row), "docs/stress.md lacks {row}");
        }
    }

    #[test]
    fn only_a_failure_for_the_expected_reason_is_a_detection() {
        let detection = &DETECTIONS[0];
        let ended = |status, text: &str| Ended { status: Some(status), text: text.to_owned() };
        assert_eq!(detection.check_detected("x", &ended(1, "expected rdi 0x1 got 0x2")), Ok(()));
        for (status, text) in
            [(0, "expected rdi"), (1, "expected rsi"), (4, "expected rdi"), (5, "expected rdi")]
        {
            assert!(detection.check_detected("x", &ended(status, text)).is_err(), "{status} {text}");
        }
    }
}
