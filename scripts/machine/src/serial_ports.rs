//! `--serial-dir`: a serial port for each CPU, and a file behind each port.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::Error;
use crate::qemu::escape_commas;

/// Serial ports of a PC: COM1, which is the console, to COM4.
const COM_PORTS: u32 = 4;
/// Ports of one `pci-serial-4x`.
const CARD_PORTS: u32 = 4;
/// Cards that find a slot on the root bus of either machine type, beside what is there.
const CARDS: u32 = 16;

/// How many CPUs the machine starts with, from what `-smp` says; 0 if it does not say it in numbers.
pub fn cpus(smp: &str) -> u32 {
    let word = smp.split(',').find_map(|word| match word.split_once('=') {
        None => Some(word),
        Some(("cpus", number)) => Some(number),
        Some(_) => None,
    });
    word.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What QEMU is told: ports for all CPUs but the first, whose port is the console, as far as they go round.
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

/// The file of the first CPU, whose lines come over the console.
pub struct FirstCpu(BufWriter<File>);

impl FirstCpu {
    /// Makes the folder, and the file in it.
    ///
    /// # Errors
    /// If the folder cannot be made or written.
    pub fn create(folder: &Path) -> Result<FirstCpu, Error> {
        std::fs::create_dir_all(folder).map_err(|error| Error::file("make the folder", folder, error))?;
        let path = folder.join("cpu0.log");
        let file = File::create(&path).map_err(|error| Error::file("write", &path, error))?;
        Ok(FirstCpu(BufWriter::new(file)))
    }

    /// Takes a console line, and keeps it if it is the first CPU's.
    pub fn take(&mut self, line: &[u8]) {
        if line.starts_with(b"[cpu0] ") {
            // A full disk shows when the file is closed, like that of every other log.
            let _ = self.0.write_all(line).and_then(|()| self.0.write_all(b"\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_cpus_is_read_as_qemu_reads_it() {
        for (smp, number) in
            [("4", 4), ("2,maxcpus=8", 2), ("cpus=6,sockets=2", 6), ("sockets=2,cores=3", 0), ("", 0)]
        {
            assert_eq!(cpus(smp), number, "{smp}");
        }
    }

    #[test]
    fn ports_are_com_then_cards_of_four() {
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
        assert_eq!(text(1000), text(68), "what is more shares the console");
    }
}
