//! Starts QEMU in such a way that it ends with this tool, even if this tool is killed.
//!
//! Linux can send a process a signal when its parent dies, but only the child itself can request the signal (prctl(2),
//! `PR_SET_PDEATHSIG`). The tool therefore starts a copy of itself, which requests the signal and then executes QEMU.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use output::eprintln;
use rustix::process::{Signal, set_parent_process_death_signal};

/// Returns a command whose process will end with this one. The caller starts it.
pub fn command(words: &[OsString]) -> Command {
    // Use this path instead of the file name: a build during this run may have replaced the file.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(std::process::id().to_string()).args(words);
    command
}

/// The name under which the copy is executed. Its arguments are the parent's process id and the words of the command.
const NAME: &str = "ringside-launch";

/// Executes the command if this process is such a copy, and returns the exit status if that fails. Returns `None` in
/// any other process. Every executable that calls [`command`] calls this first.
pub fn requested() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if words.next()? != NAME {
        return None;
    }
    let parent = words.next().and_then(|word| word.to_str()?.parse().ok());
    let words: Vec<_> = words.collect();
    Some(parent.map_or(ExitCode::from(CANNOT_START), |parent| become_child(parent, &words)))
}

/// The exit status of a launcher that could not execute QEMU. No kernel verdict uses it.
pub const CANNOT_START: u8 = 127;

/// Runs in the copy of the tool: requests the signal, then executes `words`. Returns only on failure.
fn become_child(parent: u32, words: &[OsString]) -> ExitCode {
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = asked {
        eprintln!("xtask: cannot request that QEMU is killed when this tool ends: {error}");
        return ExitCode::from(CANNOT_START);
    }
    // If the parent ended before the request, the signal will never be sent.
    if std::os::unix::process::parent_id() != parent {
        return ExitCode::from(CANNOT_START);
    }
    let Some((program, arguments)) = words.split_first() else {
        return ExitCode::from(CANNOT_START);
    };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("cannot start {}: {error}", program.to_string_lossy());
    ExitCode::from(CANNOT_START)
}
