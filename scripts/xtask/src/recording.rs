//! `run --trace`: the guest's memory in a file, out of which its traces are taken, during the run or after it.

use std::ffi::OsString;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use crate::cli::{RunOptions, TraceMode, TraceVia};
use crate::error::Error;
use crate::trace::capture::{Chipset, Drain, GuestRam, Summary, flight};
use crate::trace::console::Console;

/// Writes the trace file of a run whose trace comes over the console.
///
/// # Errors
/// If nothing came, or the file cannot be written.
pub fn from_console(options: &RunOptions, console: &Console, command: &[OsString]) -> Result<Summary, Error> {
    console.write(&options.trace_out, &words(command)).map_err(host)
}

fn words(command: &[OsString]) -> Vec<String> {
    command.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// A run whose trace is kept.
pub struct Recording {
    memory: NamedTempFile,
    size: u64,
    chipset: Chipset,
    out: PathBuf,
    command: Vec<String>,
    drain: Option<Drain>,
}

impl Recording {
    /// Makes the file for the guest's memory, and in stream mode starts to drain it. `None`: no trace is
    /// wanted, or not by way of memory.
    ///
    /// # Errors
    /// If the memory's size cannot be told, or the files cannot be made.
    pub fn start(options: &RunOptions, command: &[OsString]) -> Result<Option<Recording>, Error> {
        match (&options.trace, options.trace_via, options.trace_mode) {
            (None, ..) | (_, TraceVia::Serial, TraceMode::Flight) => return Ok(None),
            (_, TraceVia::Ram, _) => {}
            (_, TraceVia::Serial, TraceMode::Stream) => {
                let text = "--trace-mode stream needs a host that reads the guest's memory: not with --trace-via serial";
                return Err(Error::Usage(text.to_owned()));
            }
        }
        let size = bytes(&options.machine.memory).ok_or_else(|| {
            Error::Usage(
                "with --trace, --memory has to be a number with K, M, G or nothing behind it".to_owned(),
            )
        })?;
        let failed = |error| Error::File("cannot make a file for the guest's memory".to_owned(), error);
        let memory = memory_file().map_err(failed)?;
        memory.as_file().set_len(size).map_err(failed)?;
        let chipset = Chipset::of(&options.machine.machine);
        let command = words(command);
        let out = options.trace_out.clone();
        let drain = match options.trace_mode {
            TraceMode::Flight => None,
            TraceMode::Stream => {
                let file = memory.reopen().map_err(failed)?;
                Some(Drain::start(file, chipset, out.clone(), command.clone()).map_err(host)?)
            }
        };
        Ok(Some(Recording { memory, size, chipset, out, command, drain }))
    }

    /// QEMU's command line, with the guest's memory in our file.
    pub fn wire(&self, mut words: Vec<OsString>) -> Vec<OsString> {
        if let Some(at) = words.iter().position(|word| word == "-machine") {
            words[at + 1].push(",memory-backend=ram");
        }
        let path = crate::qemu::escape_commas(self.memory.path());
        let object = format!("memory-backend-file,id=ram,size={},mem-path={path},share=on", self.size);
        words.extend(["-object".into(), object.into()]);
        words
    }

    /// Writes the trace file, after the guest is gone.
    ///
    /// # Errors
    /// If there are no rings in the guest's memory, or the file cannot be written.
    pub fn finish(self) -> Result<Summary, Error> {
        if let Some(drain) = self.drain {
            return drain.stop().map_err(host);
        }
        let failed = |error| Error::File("cannot read the guest's memory".to_owned(), error);
        let ram = GuestRam::new(self.memory.reopen().map_err(failed)?, self.chipset).map_err(failed)?;
        flight(&ram, &self.out, &self.command).map_err(host)
    }
}

/// A new file for the guest's memory, where no disk is written for it: the guest waits while its pages are.
fn memory_file() -> std::io::Result<NamedTempFile> {
    NamedTempFile::new_in("/dev/shm").or_else(|_| NamedTempFile::new())
}

fn host(error: crate::trace::error::Error) -> Error {
    Error::Host(format!("trace: {error}"))
}

/// What a trace file has, in a sentence.
pub fn describe(summary: &Summary) -> String {
    let dropped: u64 = summary.header.cpus.iter().map(|cpu| cpu.dropped).sum();
    let overwritten: u64 = summary.header.cpus.iter().map(|cpu| cpu.overwritten).sum();
    format!(
        "trace: {} events in {}, {dropped} dropped, {overwritten} overwritten; see `cargo xtask trace --help`",
        summary.records(),
        summary.path.display()
    )
}

/// A size as QEMU's -m takes it: MiB if there is no unit.
fn bytes(text: &str) -> Option<u64> {
    let text = text.strip_prefix("size=").unwrap_or(text);
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "M"),
    };
    let shift = match unit {
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_qemu_reads_them() {
        assert_eq!(bytes("128M"), Some(128 << 20));
        assert_eq!(bytes("128"), Some(128 << 20));
        assert_eq!(bytes("4G"), Some(4 << 30));
        assert_eq!(bytes("size=1g"), Some(1 << 30));
        for bad in ["", "M", "1T", "1G,slots=2", "x"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
