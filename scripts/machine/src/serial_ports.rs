//! `--serial-dir`: one serial port per CPU, and a log file for each port.

use std::ffi::OsString;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use output::Log;

use crate::error::Error;
use crate::quoting::escape_commas;

/// Number of serial ports of a PC, COM1 to COM4. COM1 is the console.
const COM_PORTS: u32 = 4;
/// Number of ports on one `pci-serial-4x` card.
const CARD_PORTS: u32 = 4;
/// Number of cards for which the root bus has free slots, on both machine types.
const CARDS: u32 = 16;

/// Returns the number of CPUs in a value of `-smp`, or 0 if the value does not give one.
pub fn cpus(smp: &str) -> u32 {
    let word = smp.split(',').find_map(|word| match word.split_once('=') {
        None => Some(word),
        Some(("cpus", number)) => Some(number),
        Some(_) => None,
    });
    word.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns QEMU's arguments for one port per CPU, up to the maximum number of ports. The first CPU gets none, as its
/// port is the console.
pub fn devices(folder: &Path, cpus: u32) -> Vec<OsString> {
    let mut words: Vec<String> = Vec::new();
    let cpus = ports(cpus);
    for cpu in 1..cpus {
        words.extend(["-chardev".into(), chardev(cpu, &log_path(folder, cpu))]);
    }
    for cpu in 1..cpus.min(COM_PORTS) {
        words.extend(["-serial".into(), format!("chardev:cpu{cpu}")]);
    }
    let mut card: Vec<u32> = (COM_PORTS..cpus).collect();
    while !card.is_empty() {
        let rest = card.split_off(card.len().min(CARD_PORTS as usize));
        let ports: String =
            card.iter().zip(1..).map(|(cpu, port)| format!(",chardev{port}=cpu{cpu}")).collect();
        words.extend(["-device".into(), format!("pci-serial-4x{ports}")]);
        card = rest;
    }
    words.into_iter().map(OsString::from).collect()
}

/// Returns the number of ports for this number of CPUs, the console included.
fn ports(cpus: u32) -> u32 {
    cpus.min(COM_PORTS + CARDS * CARD_PORTS)
}

fn log_path(folder: &Path, cpu: u32) -> PathBuf {
    folder.join(format!("cpu{cpu}.log"))
}

/// Returns QEMU's option for a CPU's port that is connected to a file.
fn chardev(cpu: u32, path: &Path) -> String {
    format!("file,id=cpu{cpu},path={}", escape_commas(path))
}

/// The log files of all CPUs in one run. The first CPU's lines come from the console. The ports of the other CPUs are
/// pipes, and this tool copies from them to the files: if QEMU itself wrote a file and a write failed, it would drop
/// the output without a message.
pub struct SerialLogs {
    first: (PathBuf, Log),
    others: Vec<Port>,
}

/// The port of one CPU.
struct Port {
    cpu: u32,
    path: PathBuf,
    /// The end that QEMU opens. It must be closed before the thread can end.
    pipe: PipeWriter,
    /// The thread that copies from the pipe to the file.
    copier: JoinHandle<std::io::Result<()>>,
}

impl SerialLogs {
    /// Creates the directory and the files in it.
    ///
    /// # Errors
    /// If the directory or a file cannot be created, or the host's limits do not allow that many files or threads.
    pub fn create(folder: &Path, cpus: u32) -> Result<SerialLogs, Error> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::file("create the directory", folder, error))?;
        let others = (1..ports(cpus)).map(|cpu| Port::open(cpu, log_path(folder, cpu)));
        let others = others.collect::<Result<_, Error>>()?;
        let path = log_path(folder, 0);
        let log = Log::create(&path).map_err(|error| Error::file("write", &path, error))?;
        Ok(SerialLogs { first: (path, log), others })
    }

    /// Replaces the files in QEMU's command line with the pipes.
    pub fn wire(&self, mut words: Vec<OsString>) -> Vec<OsString> {
        for Port { cpu, path, pipe, .. } in &self.others {
            let file = chardev(*cpu, path);
            // The path contains our process id instead of `/proc/self`, because QEMU opens it in its own process.
            let ours = format!("/proc/{}/fd/{}", std::process::id(), pipe.as_raw_fd());
            words.iter_mut().filter(|word| **word == *file).for_each(|word| {
                *word = chardev(*cpu, Path::new(&ours)).into();
            });
        }
        words
    }

    /// Writes a console line to the first CPU's file if that CPU printed the line.
    pub fn take(&mut self, line: &[u8]) {
        if line.starts_with(b"[cpu0] ") {
            self.first.1.line(line);
        }
    }

    /// Completes the files, after QEMU has ended.
    ///
    /// # Errors
    /// The error of the first file that could not be written. Such an error does not end the run earlier.
    pub fn finish(self) -> Result<(), Error> {
        let (path, log) = self.first;
        let mut result = log.close().map_err(|error| Error::file("write", &path, error));
        for Port { path, pipe, copier, .. } in self.others {
            drop(pipe);
            let copied = copier.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread panicked")));
            result = result.and(copied.map_err(|error| Error::file("write", &path, error)));
        }
        result
    }
}

impl Port {
    fn open(cpu: u32, path: PathBuf) -> Result<Port, Error> {
        let failed = |error| Error::file("write", &path, error);
        let log = Log::create(&path).map_err(failed)?;
        let (reader, pipe) = std::io::pipe().map_err(failed)?;
        let copier = Builder::new().spawn(move || copy(reader, log)).map_err(failed)?;
        Ok(Port { cpu, path, pipe, copier })
    }
}

/// Copies until the pipe is closed. Continues to read even if the file cannot be written, because a CPU whose pipe is
/// full would wait.
fn copy(mut from: PipeReader, mut to: Log) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return to.close(),
            Ok(count) => to.write(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smp_value_is_parsed_as_qemu_parses_it() {
        for (smp, number) in
            [("4", 4), ("2,maxcpus=8", 2), ("cpus=6,sockets=2", 6), ("sockets=2,cores=3", 0), ("", 0)]
        {
            assert_eq!(cpus(smp), number, "{smp}");
        }
    }

    #[test]
    fn ports_are_com_ports_then_four_port_cards() {
        let text = |cpus| {
            let words = devices(Path::new("d,r"), cpus);
            words
                .into_iter()
                .map(|word| word.into_string().expect("invalid UTF-8"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(text(1), "");
        assert_eq!(text(2), "-chardev file,id=cpu1,path=d,,r/cpu1.log -serial chardev:cpu1");
        assert!(text(6).ends_with(
            "-serial chardev:cpu1 -serial chardev:cpu2 -serial chardev:cpu3 \
             -device pci-serial-4x,chardev1=cpu4,chardev2=cpu5"
        ));
        assert_eq!(text(20).matches("pci-serial-4x").count(), 4);
        assert_eq!(text(1000), text(68), "further CPUs share the console");
    }
}
