//! A guest's memory as an anonymous file (memfd). The host can read it while QEMU uses it, and it is freed when this tool
//! ends, even if it is killed.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, memfd_create};
use trace::capture::{Chipset, GuestRam};

use crate::error::Error;
use crate::options::MachineOptions;

/// The memory of a guest that is to be started.
pub struct GuestMemory {
    file: File,
    size: u64,
    chipset: Chipset,
}

impl GuestMemory {
    /// Creates the memory for such a machine. Returns `None` if its options do not give the size as a number, or define
    /// a memory backend themselves.
    ///
    /// # Errors
    /// If the host cannot create such a file.
    pub fn create(options: &MachineOptions) -> Result<Option<GuestMemory>, Error> {
        let Some(size) = GuestMemory::size_of(options) else { return Ok(None) };
        let failed = |error: std::io::Error| {
            Error::File("cannot create a file for the guest's memory".to_owned(), error)
        };
        let fd = memfd_create("ringside-guest", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let file = File::from(fd);
        // This allocates no memory: pages are allocated when the guest touches them.
        file.set_len(size).map_err(failed)?;
        Ok(Some(GuestMemory { file, size, chipset: Chipset::of(&options.machine) }))
    }

    /// Adds this memory to QEMU's command line.
    pub fn wire(&self, mut words: Vec<OsString>) -> Vec<OsString> {
        if let Some(at) = words.iter().position(|word| word == "-machine") {
            words[at + 1].push(",memory-backend=ram");
        }
        // By our process id, not `/proc/self`: QEMU opens the path itself.
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        let object = format!("memory-backend-file,id=ram,size={},mem-path={path},share=on", self.size);
        words.extend(["-object".into(), object.into()]);
        words
    }

    /// Returns the chipset, which defines how the file's offsets map to physical addresses.
    pub fn chipset(&self) -> Chipset {
        self.chipset
    }

    /// Returns another handle to the file.
    ///
    /// # Errors
    /// If this process has too many files open.
    pub fn file(&self) -> Result<File, Error> {
        let failed = |error| Error::File("cannot access the guest's memory".to_owned(), error);
        self.file.try_clone().map_err(failed)
    }

    /// Returns read access to the memory.
    ///
    /// # Errors
    /// As for [`file`](Self::file), or if the file's size cannot be read.
    pub fn ram(&self) -> Result<GuestRam, Error> {
        let failed = |error| Error::File("cannot read the guest's memory".to_owned(), error);
        GuestRam::new(self.file()?, self.chipset).map_err(failed)
    }

    /// Returns the size of such a machine's memory in bytes, if it can be such a file.
    pub fn size_of(options: &MachineOptions) -> Option<u64> {
        bytes(&options.memory).filter(|_| !options.machine.contains("memory-backend"))
    }
}

/// Parses a size in the syntax of QEMU's -m: MiB if there is no unit.
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
    fn sizes_are_parsed_as_qemu_parses_them() {
        assert_eq!(bytes("128M"), Some(128 << 20));
        assert_eq!(bytes("128"), Some(128 << 20));
        assert_eq!(bytes("4G"), Some(4 << 30));
        assert_eq!(bytes("size=1g"), Some(1 << 30));
        for bad in ["", "M", "1T", "1G,slots=2", "x"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
