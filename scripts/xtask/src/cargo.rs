//! Runs a build: quiet when nothing is to do, with progress when it takes a while, in full when it fails.

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// A build that takes longer than this shows what it does.
const PATIENCE: Duration = Duration::from_millis(700);

/// Runs `command` (a cargo) to its end. With `show` its messages go straight to the terminal, progress bar
/// included; otherwise they are held back for a moment, and dropped if it succeeds within it without warnings.
pub fn build(mut command: Command, what: &str, show: bool) -> Result<(), Error> {
    let failed = || Error::Host(format!("building {what} failed"));
    let start = |error| Error::Host(format!("cannot start cargo: {error}"));
    command.stdin(Stdio::null());
    if show {
        let status = command.status().map_err(start)?;
        return if status.success() { Ok(()) } else { Err(failed()) };
    }
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().map_err(start)?;
    let (sender, receiver) = mpsc::channel();
    if let Some(stderr) = child.stderr.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
    }
    let held = relay(&receiver);
    let status = child.wait().map_err(|error| Error::Host(format!("cannot wait for cargo: {error}")))?;
    if !status.success() || held.iter().any(|line| line.contains("warning")) {
        held.iter().for_each(|line| eprintln!("{line}"));
    }
    if status.success() { Ok(()) } else { Err(failed()) }
}

/// Takes lines until the sender is gone. Returns those that were not yet printed.
fn relay(receiver: &mpsc::Receiver<String>) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
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
