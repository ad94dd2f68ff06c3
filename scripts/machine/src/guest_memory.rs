//! Guest memory as an anonymous file (memfd). The host can read it while QEMU uses it. It is freed when this tool ends,
//! even if the tool is killed.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, getrlimit};
use trace::capture::{Chipset, GuestRam};

use crate::directory::{CpuDirectory, IncompleteLine};
use crate::error::Error;
use crate::options::MachineOptions;

/// The memory for a guest that has not been started yet.
pub struct GuestMemory {
    file: File,
    size: u64,
    chipset: Chipset,
}

impl GuestMemory {
    /// Creates the memory for a machine with these options. Returns `None` if the options do not give the size as a
    /// number, or define a memory backend themselves, or if the user's limit on the size of files is too low.
    ///
    /// # Errors
    /// If the host cannot create the file.
    pub fn create(options: &MachineOptions) -> Result<Option<GuestMemory>, Error> {
        let Some(size) = GuestMemory::size_of(options) else { return Ok(None) };
        // The limit also applies to a file in memory.
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < size) {
            return Ok(None);
        }
        let failed = |error: std::io::Error| {
            Error::File("cannot create a file for the guest's memory".to_owned(), error)
        };
        let fd = memfd_create("ringside-guest", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let file = File::from(fd);
        // This allocates no memory: the host allocates a page when the guest first accesses it.
        file.set_len(size).map_err(failed)?;
        Ok(Some(GuestMemory { file, size, chipset: Chipset::of(&options.machine) }))
    }

    /// Adds this memory to the QEMU command line.
    pub fn wire(&self, mut words: Vec<OsString>) -> Vec<OsString> {
        if let Some(at) = words.iter().position(|word| word == "-machine") {
            words[at + 1].push(",memory-backend=ram");
        }
        // The path contains our process ID instead of `/proc/self`, because QEMU opens it in its own process.
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        let object = format!("memory-backend-file,id=ram,size={},mem-path={path},share=on", self.size);
        words.extend(["-object".into(), object.into()]);
        words
    }

    /// Returns the chipset, which determines how file offsets map to physical addresses.
    pub fn chipset(&self) -> Chipset {
        self.chipset
    }

    /// Returns another handle to the file.
    ///
    /// # Errors
    /// If this process has too many open files.
    pub fn file(&self) -> Result<File, Error> {
        let failed = |error| Error::File("cannot access the guest's memory".to_owned(), error);
        self.file.try_clone().map_err(failed)
    }

    /// Returns an object that reads the memory by guest-physical address.
    ///
    /// # Errors
    /// The errors of [`file`](Self::file), or an error if the size of the file cannot be read.
    pub fn ram(&self) -> Result<GuestRam, Error> {
        let failed = |error| Error::File("cannot read the guest's memory".to_owned(), error);
        GuestRam::new(self.file()?, self.chipset).map_err(failed)
    }

    /// Returns the incomplete lines of the programs, for a run that ended before its programs did. When a program ends,
    /// the kernel prints its incomplete line.
    pub fn incomplete_lines(&self) -> Vec<IncompleteLine> {
        let read = |ram: &GuestRam| {
            CpuDirectory::find(ram)?.map_or(Ok(Vec::new()), |found| found.incomplete_lines(ram))
        };
        // The lines are an addition to the report of a run that has failed.
        self.ram().ok().and_then(|ram| read(&ram).ok()).unwrap_or_default()
    }

    /// Returns the memory size of a machine with these options, in bytes, if its memory can be such a file.
    pub fn size_of(options: &MachineOptions) -> Option<u64> {
        const CONFLICTING: [&str; 7] =
            ["-m", "-M", "-machine", "-numa", "-mem-path", "-mem-prealloc", "-readconfig"];
        let conflicts = |word: &String| {
            // QEMU's options may also begin with two hyphens.
            let word = word.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(word);
            CONFLICTING.contains(&word) || word.contains("id=ram")
        };
        // QEMU rounds the size of its own memory up to 8 KiB, but not that of a file.
        bytes(&options.memory)
            .filter(|size| size.is_multiple_of(8 << 10) && *size > 0)
            .filter(|_| !options.machine.contains("memory-backend"))
            .filter(|_| !options.qemu_arg.iter().any(conflicts))
    }
}

/// Parses a size in the syntax of QEMU's -m. The default unit is MiB.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.strip_prefix("size=").unwrap_or(text);
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "M"),
    };
    let shift = match unit {
        "B" | "b" => 0,
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
    use crate::options::parse;

    #[test]
    fn sizes_are_parsed_as_qemu_parses_them() {
        assert_eq!(bytes("128M"), Some(128 << 20));
        assert_eq!(bytes("128"), Some(128 << 20));
        assert_eq!(bytes("128B"), Some(128));
        assert_eq!(bytes("4G"), Some(4 << 30));
        assert_eq!(bytes("size=1g"), Some(1 << 30));
        for bad in ["", "M", "1T", "1G,slots=2", "x"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn memory_options_of_the_user_are_not_replaced() {
        let size = |words: &[&str]| GuestMemory::size_of(&parse(words).expect("cannot parse"));
        assert_eq!(size(&["--qemu-arg", "-d", "--qemu-arg", "int"]), Some(128 << 20));
        assert_eq!(size(&["-m", "100K"]), None);
        assert_eq!(size(&["--machine", "q35,memory-backend=x"]), None);
        for argument in ["-m", "--m", "-numa", "-machine", "memory-backend-ram,id=ram,size=1G"] {
            assert_eq!(size(&["--qemu-arg", argument]), None, "{argument}");
        }
    }
}
