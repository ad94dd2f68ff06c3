//! Starts QEMU so that it cannot outlive this tool, however this tool ends.
//!
//! The kernel can send a signal to a process whose parent dies, but only the child itself can ask for it.
//! So the tool starts itself once more; that copy asks, and then becomes QEMU.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::error::Error;

/// A command that ends with its parent, once the caller has started it.
pub fn command(words: &[OsString]) -> Command {
    // Not by the file's name: a build beside this run may have replaced the file.
    let mut command = Command::new("/proc/self/exe");
    command.arg("launch").arg(std::process::id().to_string()).arg("--").args(words);
    command
}

/// The exit status of a launcher that could not become the program; no verdict has it.
pub const CANNOT_START: u8 = 127;

/// The copy's half: asks for the signal, then becomes `words`. Returns only if that failed.
pub fn become_child(parent: u32, words: &[OsString]) -> Result<ExitCode, Error> {
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = asked {
        eprintln!("xtask: cannot tie QEMU to this tool's life: {error}");
        return Ok(ExitCode::from(CANNOT_START));
    }
    // The parent may have ended before the request; nobody would send the signal then.
    if std::os::unix::process::parent_id() != parent {
        return Ok(ExitCode::from(CANNOT_START));
    }
    let Some((program, arguments)) = words.split_first() else {
        return Ok(ExitCode::from(CANNOT_START));
    };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("cannot start {}: {error}", program.to_string_lossy());
    Ok(ExitCode::from(CANNOT_START))
}
