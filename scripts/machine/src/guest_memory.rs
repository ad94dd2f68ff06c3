//! A guest's memory as a file that has no name: the host reads along while QEMU uses it, and it is gone with this tool,
//! however this tool ends.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, memfd_create};
use trace::capture::{Chipset, GuestRam};

use crate::error::Error;
use crate::options::MachineOptions;

/// The memory of a guest that is about to be started.
pub struct GuestMemory {
    file: File,
    size: u64,
    chipset: Chipset,
}

impl GuestMemory {
    /// Memory for such a machine. `None`: its options do not say in figures how much it has, or give it memory of
    /// their own.
    ///
    /// # Errors
    /// If the host has no such files.
    pub fn create(options: &MachineOptions) -> Result<Option<GuestMemory>, Error> {
        let Some(size) = GuestMemory::size_of(options) else { return Ok(None) };
        let failed = |error: std::io::Error| {
            Error::File("cannot make a file for the guest's memory".to_owned(), error)
        };
        let fd = memfd_create("ringside-guest", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let file = File::from(fd);
        // Nothing is taken by that: pages come as the guest touches them.
        file.set_len(size).map_err(failed)?;
        Ok(Some(GuestMemory { file, size, chipset: Chipset::of(&options.machine) }))
    }

    /// QEMU's command line, with this memory in it.
    pub fn wire(&self, mut words: Vec<OsString>) -> Vec<OsString> {
        if let Some(at) = words.iter().position(|word| word == "-machine") {
            words[at + 1].push(",memory-backend=ram");
        }
        // By our number, not by `self`: QEMU opens it anew.
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        let object = format!("memory-backend-file,id=ram,size={},mem-path={path},share=on", self.size);
        words.extend(["-object".into(), object.into()]);
        words
    }

    /// The machine's kind, which says where in the file what lies.
    pub fn chipset(&self) -> Chipset {
        self.chipset
    }

    /// The file once more.
    ///
    /// # Errors
    /// If this process has too many files open.
    pub fn file(&self) -> Result<File, Error> {
        let failed = |error| Error::File("cannot access the guest's memory".to_owned(), error);
        self.file.try_clone().map_err(failed)
    }

    /// The memory, to be looked at.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn ram(&self) -> Result<GuestRam, Error> {
        let failed = |error| Error::File("cannot read the guest's memory".to_owned(), error);
        GuestRam::new(self.file()?, self.chipset).map_err(failed)
    }

    /// How many bytes such a machine has, if its memory can be such a file.
    pub fn size_of(options: &MachineOptions) -> Option<u64> {
        bytes(&options.memory).filter(|_| !options.machine.contains("memory-backend"))
    }
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
