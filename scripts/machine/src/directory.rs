//! Finds the per-CPU data that the kernel publishes in the guest's memory; see [`kernel_abi::counters`].

use std::io;
use std::mem::size_of;

use bytemuck::{Zeroable, bytes_of_mut, cast_slice_mut};
use kernel_abi::counters::{Counters, Directory, LINE_MAX, LineState, MAGIC};
use trace::capture::{CPUS_MAX, GuestRam};

/// The kernel's directory of the CPUs' counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuDirectory {
    /// The start of the directory.
    pub start: Directory,
    /// Physical address of each CPU's counters, by dense index.
    pub counters: Vec<u64>,
}

/// Text that a program had written without a trailing newline when the run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompleteLine {
    /// Dense index of the CPU.
    pub cpu: u32,
    /// The text.
    pub text: Vec<u8>,
}

impl IncompleteLine {
    /// Returns the line to show and to log. No program can print it, because the kernel begins each line of a program
    /// with `[cpuN] `.
    pub fn line(&self) -> Vec<u8> {
        let mut line = format!("[cpu{}, partial] ", self.cpu).into_bytes();
        line.extend_from_slice(&self.text);
        line
    }
}

impl CpuDirectory {
    /// Searches the guest's entire memory. Returns `None` if the kernel has not written the directory yet.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn find(ram: &GuestRam) -> io::Result<Option<CpuDirectory>> {
        for page in ram.pages_with(&MAGIC)? {
            // A page may begin with the magic number by chance. `at` rejects such a page.
            if let Some(directory) = CpuDirectory::at(ram, page)? {
                return Ok(Some(directory));
            }
        }
        Ok(None)
    }

    /// Parses the directory in a page. Returns `None` if it is invalid. The kernel writes the magic number last, so a
    /// directory with the magic number is complete.
    fn at(ram: &GuestRam, page: u64) -> io::Result<Option<CpuDirectory>> {
        let mut start = Directory::zeroed();
        ram.read(page, bytes_of_mut(&mut start))?;
        let first = page + size_of::<Directory>() as u64;
        let cpus = start.cpus;
        if !(1..=CPUS_MAX).contains(&cpus) || ram.offset(first, 8 * u64::from(cpus)).is_none() {
            return Ok(None);
        }
        let mut counters = vec![0_u64; cpus as usize];
        ram.read(first, cast_slice_mut(&mut counters))?;
        let length = size_of::<Counters<u64>>() as u64;
        let in_memory = |address: &u64| address.is_multiple_of(8) && ram.offset(*address, length).is_some();
        Ok(counters.iter().all(in_memory).then_some(CpuDirectory { start, counters }))
    }

    /// Reads each CPU's incomplete line. Omits empty ones.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn incomplete_lines(&self, ram: &GuestRam) -> io::Result<Vec<IncompleteLine>> {
        let mut lines = Vec::new();
        for (cpu, counters) in (0..).zip(&self.counters) {
            let mut line = LineState::zeroed();
            ram.read(counters.wrapping_add(self.start.line), bytes_of_mut(&mut line))?;
            let length = usize::try_from(line.length).unwrap_or(LINE_MAX).min(LINE_MAX);
            if length > 0 {
                lines.push(IncompleteLine { cpu, text: line.bytes[..length].to_vec() });
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use trace::capture::Chipset;

    use super::*;

    fn put(ram: &GuestRam, at: u64, words: &[u64]) {
        for (n, word) in words.iter().enumerate() {
            ram.write_u64(at + 8 * n as u64, *word).expect("cannot write");
        }
    }

    #[test]
    fn incomplete_lines_are_read_and_empty_ones_are_omitted() {
        let file = tempfile::tempfile().expect("cannot create a file");
        file.set_len(1 << 20).expect("cannot set the size");
        let ram = GuestRam::new(file, Chipset::Q35).expect("cannot access the memory");
        assert_eq!(CpuDirectory::find(&ram).expect("cannot read"), None);
        let [low, high] = [&MAGIC[..8], &MAGIC[8..]]
            .map(|half| u64::from_le_bytes(half.try_into().expect("there must be 8 bytes")));
        let start = [low, high, 4 | 100 << 32, 2_000_000_000, 0x100_u64.wrapping_neg()];
        put(&ram, 0x5000, &[&start[..], &[0x8100, 0x9100, 0xa100, 0xb100]].concat());
        put(&ram, 0x8000, &[7, u64::from_le_bytes(*b"step 2 .")]);
        // An invalid length, as if a broken kernel had overwritten the memory.
        put(&ram, 0xa000, &[u64::MAX, u64::from_le_bytes(*b"\x1b[2J0000")]);
        put(&ram, 0xb000, &[1, u64::from_le_bytes(*b"x0000000")]);
        let directory = CpuDirectory::find(&ram).expect("cannot read").expect("there must be a directory");
        let lines = directory.incomplete_lines(&ram).expect("cannot read");
        assert_eq!(lines.iter().map(|line| line.cpu).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(lines[0].line(), b"[cpu0, partial] step 2 ");
        assert_eq!((lines[1].text.len(), &lines[1].text[..4]), (LINE_MAX, &b"\x1b[2J"[..]));
        assert_eq!(lines[2].text, b"x");
    }
}
