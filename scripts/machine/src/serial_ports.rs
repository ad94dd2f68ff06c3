//! `--serial-dir`: one serial port per CPU, and a log file for each port.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use output::Log;

use crate::error::Error;
use crate::qemu::escape_commas;

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
    let cpus = cpus.min(COM_PORTS + CARDS * CARD_PORTS);
    for cpu in 1..cpus {
        let path = folder.join(format!("cpu{cpu}.log"));
        words.extend(["-chardev".into(), format!("file,id=cpu{cpu},path={}", escape_commas(&path))]);
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

/// The log file of the first CPU, whose lines appear on the console.
pub struct FirstCpu {
    path: PathBuf,
    log: Log,
}

impl FirstCpu {
    /// Creates the folder and the log file in it.
    ///
    /// # Errors
    /// If the folder cannot be created or the file cannot be written.
    pub fn create(folder: &Path) -> Result<FirstCpu, Error> {
        std::fs::create_dir_all(folder).map_err(|error| Error::file("create the folder", folder, error))?;
        let path = folder.join("cpu0.log");
        let log = Log::create(&path).map_err(|error| Error::file("write", &path, error))?;
        Ok(FirstCpu { path, log })
    }

    /// Writes a console line to the file if it is a line of the first CPU.
    pub fn take(&mut self, line: &[u8]) {
        if line.starts_with(b"[cpu0] ") {
            self.log.line(line);
        }
    }

    /// Closes the file.
    ///
    /// # Errors
    /// If a line could not be written, which must not end the run.
    pub fn finish(self) -> Result<(), Error> {
        self.log.finish().map(drop).map_err(|error| Error::file("write", &self.path, error))
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
            words.into_iter().map(|word| word.into_string().expect("text")).collect::<Vec<_>>().join(" ")
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
