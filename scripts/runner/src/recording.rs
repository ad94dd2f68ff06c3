//! `run --trace`: maps guest memory as a file and copies the trace from it, during the run or afterwards.

use std::ffi::OsString;
use std::path::PathBuf;

use machine::error::Error;
use machine::guest_memory::GuestMemory;
use trace::capture::{Drain, Summary, flight};
use trace::console::Console;

use crate::options::{RunOptions, TraceMode, TraceVia};

/// Writes the trace file of a run whose trace was sent over the console.
///
/// # Errors
/// If the console contains no trace, or the file cannot be written.
pub fn from_console(options: &RunOptions, console: &Console, command: &[OsString]) -> Result<Summary, Error> {
    console.write(&options.trace_out, &words(command)).map_err(host)
}

fn words(command: &[OsString]) -> Vec<String> {
    command.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// A run whose trace is recorded from guest memory.
pub struct Recording<'a> {
    memory: &'a GuestMemory,
    out: PathBuf,
    command: Vec<String>,
    drain: Option<Drain>,
}

impl<'a> Recording<'a> {
    /// In stream mode, starts to drain the trace rings in guest memory. Returns `None` if no trace is requested, or if
    /// the trace is sent over the console.
    ///
    /// # Errors
    /// If guest memory is not a file, or the trace file cannot be created.
    pub fn start(
        options: &RunOptions,
        command: &[OsString],
        memory: Option<&'a GuestMemory>,
    ) -> Result<Option<Recording<'a>>, Error> {
        match (&options.trace, options.trace_via, options.trace_mode) {
            (None, ..) | (_, TraceVia::Serial, TraceMode::Flight) => return Ok(None),
            (_, TraceVia::Ram, _) => {}
            (_, TraceVia::Serial, TraceMode::Stream) => {
                let text =
                    "--trace-mode stream reads the guest's memory: it cannot be used with --trace-via serial";
                return Err(Error::Usage(text.to_owned()));
            }
        }
        let memory = memory.ok_or_else(|| {
            Error::Usage(
                "with --trace, --memory must be a number with K, M, G or no unit, --machine and --qemu-arg must not \
                 define the memory, and `ulimit -f` must allow a file of that size"
                    .to_owned(),
            )
        })?;
        let command = words(command);
        let out = options.trace_out.clone();
        let drain = match options.trace_mode {
            TraceMode::Flight => None,
            TraceMode::Stream => Some(
                Drain::start(memory.file()?, memory.chipset(), out.clone(), command.clone()).map_err(host)?,
            ),
        };
        Ok(Some(Recording { memory, out, command, drain }))
    }

    /// Writes the trace file. Call it after QEMU has ended.
    ///
    /// # Errors
    /// If guest memory contains no trace rings, or the file cannot be written.
    pub fn finish(self) -> Result<Summary, Error> {
        match self.drain {
            Some(drain) => drain.stop().map_err(host),
            None => flight(&self.memory.ram()?, &self.out, &self.command).map_err(host),
        }
    }
}

fn host(error: trace::error::Error) -> Error {
    Error::Host(format!("trace: {error}"))
}

/// Returns the error for a ring that is not completely in the file.
pub fn damage(summary: &Summary) -> Option<Error> {
    let (cpu, why) = summary.header.damage()?;
    Some(host(trace::error::Error::Ring(cpu, why.to_owned())))
}

/// Describes a trace file in one sentence.
pub fn describe(summary: &Summary) -> String {
    let dropped: u64 = summary.header.total(|cpu| cpu.dropped);
    let overwritten: u64 = summary.header.total(|cpu| cpu.overwritten);
    format!(
        "trace: {} in {}, {dropped} dropped, {overwritten} overwritten; see `cargo xtask trace --help`",
        output::count(summary.records(), "event"),
        summary.path.display()
    )
}
