//! Captures a trace file from the rings in guest memory.
//!
//! Guest memory is the file of QEMU's `memory-backend-file` with `share=on`. Everything that the guest writes is
//! immediately in the file, and remains there after the guest has panicked, hung or exited.
//!
//! * [`flight`] copies the records in each ring after the run.
//! * [`Drain`] is a thread that drains the rings during the run.
//!
//! Use a new file for every run. Otherwise the rings of an earlier run would be mistaken for those of this run.

mod drain;
mod flight;
mod guest_ram;
mod rings;
#[cfg(test)]
mod tests;

pub use drain::{Drain, Progress};
pub use flight::flight;
pub use guest_ram::{Chipset, GuestRam};
pub use rings::{CPUS_MAX, Ring, Rings};

use std::path::PathBuf;
use std::time::Duration;

use super::file::Header;

/// A captured trace file.
#[derive(Debug)]
pub struct Summary {
    /// The path of the file.
    pub path: PathBuf,
    /// The header of the file. It has the number of records of each CPU, and how many were dropped, overwritten or
    /// torn.
    pub header: Header,
    /// The CPU time spent on draining the rings after they were found, including polls that found nothing.
    pub drained: Duration,
}

impl Summary {
    /// Returns the number of records in the file.
    pub fn records(&self) -> u64 {
        self.header.cpus.iter().map(|cpu| cpu.records).sum()
    }
}
