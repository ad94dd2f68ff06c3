//! The time from QEMU's start to the first output of the first program, beside that of the smallest kernel.
//!
//! Both kernels get the same machine. For the [bare kernel](super::bare) the time ends when the host receives the byte
//! that it writes to the serial port. For Ringside it ends when the host has received the first byte that a program
//! writes there. This is later than the first instruction in ring 3, by that of one system call and of one line's start.
//! So neither kernel executes anything for the measurement.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use machine::build;
use machine::error::Error;
use machine::options::{MachineOptions, parse};
use machine::qemu::{Machine, Wiring};

use super::bare;

/// The time that a CPU must wait after INIT, in milliseconds. The bare kernel starts no other CPU.
pub const INIT_MS: f64 = 10.0;
/// The number of CPUs.
pub const CPUS: usize = 4;
/// The program, and the text with which its output begins after the CPU's number.
const PROGRAM: (&str, &str) = ("program=hello", "] hello");
/// The time limit of one boot.
const LIMIT: Duration = Duration::from_secs(60);

/// The times of one pair of boots in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The bare kernel.
    pub bare: f64,
    /// Ringside.
    pub ringside: f64,
}

impl Pair {
    /// Returns how many times as long as the bare kernel Ringside takes, without INIT's wait.
    #[must_use]
    pub fn ratio(self) -> f64 {
        (self.ringside - INIT_MS) / self.bare
    }
}

/// Boots both kernels alternately, this many times. `progress` is called before each pair, with its number from 1.
///
/// # Errors
/// If a kernel does not print its byte.
pub fn measure(pairs: usize, mut progress: impl FnMut(usize)) -> Result<Vec<Pair>, Error> {
    let folder = tempfile::tempdir();
    let folder = folder.map_err(|error| Error::File("cannot create a directory".to_owned(), error))?;
    let bare = folder.path().join("bare.elf");
    output::write(&bare, bare::elf()).map_err(|error| Error::file("write", &bare, error))?;
    let options: MachineOptions =
        parse(["--smp", &CPUS.to_string()]).map_err(|error| Error::Usage(error.to_string()))?;
    let first = char::from(bare::BYTE).to_string();
    let mut found = Vec::new();
    // The first pair brings QEMU and both files into the host's caches.
    for pair in 0..=pairs {
        if pair > 0 {
            progress(pair);
        }
        let bare = time(&options, &bare, "", &first)?;
        let ringside = time(&options, &build::kernel_path(), PROGRAM.0, PROGRAM.1)?;
        found.push(Pair { bare, ringside });
    }
    found.remove(0);
    Ok(found)
}

/// Starts QEMU, and returns the milliseconds until its console contains `text`. Then ends QEMU.
fn time(options: &MachineOptions, kernel: &Path, cmdline: &str, text: &str) -> Result<f64, Error> {
    let machine = Machine { options, kernel, module: None, cmdline, gdb_port: None };
    let words = machine.command_line(Wiring::Terminal)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let mut qemu = command.spawn().map_err(|error| Error::file("start", Path::new(&words[0]), error))?;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    let mut found = None;
    if let Some(console) = &mut qemu.stdout {
        while found.is_none() && start.elapsed() < LIMIT {
            match console.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => seen.extend(&buffer[..count]),
            }
            if contains(&seen, text.as_bytes()) {
                found = Some(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    // It may have ended already.
    let _ = qemu.kill();
    let _ = qemu.wait();
    found.ok_or_else(|| Error::Host(format!("{} has not printed {text:?}", kernel.display())))
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_after_init_does_not_count() {
        assert!((Pair { bare: 100.0, ringside: 135.0 }.ratio() - 1.25).abs() < 1e-9);
    }

    #[test]
    fn text_is_found_across_reads() {
        assert!(contains(b"[cpu2] hello from", b"] hello"));
        assert!(!contains(b"[cpu0] ringside: hello", b"] hello"));
    }
}
