//! Runs a build. It is silent if nothing has to be built, shows progress if it is slow, and prints all output if it
//! fails.

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use output::eprintln;

use crate::error::Error;

/// A build that takes longer than this shows its progress.
const PROGRESS_DELAY: Duration = Duration::from_millis(700);

/// When a build shows its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Immediately, on the terminal, with the progress bar.
    Progress,
    /// When it is slow, has warnings, or fails.
    Slow,
    /// Only when it has warnings or fails, because the caller shows other output during the build.
    Trouble,
}

/// Runs `command`, a cargo command, to completion.
pub fn build(mut command: Command, what: &str, show: Show) -> Result<(), Error> {
    let failed = || Error::Host(format!("building {what} failed"));
    let start = |error| Error::Host(format!("cannot start cargo: {error}"));
    command.stdin(Stdio::null());
    if show == Show::Progress {
        let status = command.status().map_err(start)?;
        return if status.success() { Ok(()) } else { Err(failed()) };
    }
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    if show == Show::Trouble {
        // Without this option, cargo's progress lines would be shown with the warnings.
        command.arg("--quiet");
    }
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().map_err(start)?;
    let (sender, receiver) = mpsc::channel();
    if let Some(stderr) = child.stderr.take() {
        let reader = std::thread::Builder::new().spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        if let Err(error) = reader {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::File("cannot start a thread".to_owned(), error));
        }
    }
    let held = if show == Show::Slow { relay(&receiver) } else { receiver.iter().collect() };
    let status = child.wait().map_err(|error| Error::Host(format!("cannot wait for cargo: {error}")))?;
    if !status.success() || held.iter().any(|line| line.contains("warning")) {
        held.iter().for_each(|line| eprintln!("{line}"));
    }
    if status.success() { Ok(()) } else { Err(failed()) }
}

/// Receives lines until the sender is closed. Prints them once the build is slow, and returns those not printed.
fn relay(receiver: &mpsc::Receiver<String>) -> Vec<String> {
    let until = Instant::now() + PROGRESS_DELAY;
    let mut held = Vec::new();
    loop {
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => held.push(line),
            Err(RecvTimeoutError::Disconnected) => return held,
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    held.iter().for_each(|line| eprintln!("{line}"));
    receiver.iter().for_each(|line| eprintln!("{line}"));
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_not_shown_in_quiet_mode() {
        let ends = |show| {
            let mut cargo = Command::new("sh");
            cargo.args(["-c", "[ \"$*\" = --quiet ]", "cargo"]);
            build(cargo, "nothing", show).is_ok()
        };
        assert!(ends(Show::Trouble));
        assert!(!ends(Show::Slow));
    }
}
