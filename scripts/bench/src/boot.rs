//! Boots the kernel once with the host tool's own subcommand `run`, and returns what the program printed.

use std::path::Path;
use std::process::Command;

use machine::error::Error;
use machine::verify::Outcome;
use serde_json::Value;

/// The host tool, which executes this code.
const TOOL: &str = "/proc/self/exe";

/// The result of a boot that has passed.
pub struct Boot {
    /// The lines of the console.
    pub stdout: String,
    /// The results that `run --json` writes.
    pub json: Value,
}

/// Boots the kernel as it is built. `words` are the options of `run`, followed by the program and its arguments.
///
/// # Errors
/// If the run does not pass. The error contains the end of its output.
pub fn boot(words: &[&str]) -> Result<Boot, Error> {
    boot_until(words, Outcome::Pass)
}

/// Does the same for a run that must have this outcome.
///
/// # Errors
/// If the run has another outcome. The error contains the end of its output.
pub fn boot_until(words: &[&str], outcome: Outcome) -> Result<Boot, Error> {
    let file = tempfile::NamedTempFile::new();
    let file = file.map_err(|error| Error::File("cannot create a temporary file".to_owned(), error))?;
    // Another build may have replaced the executable file.
    let mut command = Command::new(TOOL);
    command.args(["run", "--as-built", "--json"]).arg(file.path()).args(words);
    let output = command.output().map_err(|error| Error::file("start", Path::new(TOOL), error))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() != Some(outcome.status().into()) {
        let errors = String::from_utf8_lossy(&output.stderr);
        let end: Vec<_> = errors.lines().rev().take(5).collect();
        let end: Vec<_> = end.into_iter().rev().collect();
        return Err(Error::Host(format!(
            "a measurement failed: xtask run {}: {}",
            words.join(" "),
            end.join("; ")
        )));
    }
    let text = std::fs::read(file.path()).map_err(|error| Error::file("read", file.path(), error))?;
    let json = serde_json::from_slice(&text)
        .map_err(|error| Error::Host(format!("the results of a run are not JSON: {error}")))?;
    Ok(Boot { stdout, json })
}

/// Returns the words after a label, for each console line that has the label. Ringside's lines start with the CPU in
/// brackets.
pub fn labelled<'a>(console: &'a str, label: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    console.lines().filter_map(move |line| {
        let text = line.split_once("] ").map_or(line, |(_, text)| text);
        Some(text.strip_prefix(label)?.split_whitespace().collect())
    })
}
