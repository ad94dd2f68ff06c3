//! Captures a trace file from the rings in a guest's memory.
//!
//! The memory is the file of QEMU's `memory-backend-file` with `share=on`: everything that the guest writes is in it
//! immediately, and stays there when the guest panics, hangs or has ended.
//!
//! * [`flight`], after the run: copies the records that are in each ring.
//! * [`Drain`], during the run: a thread that drains the rings as they fill.
//!
//! The file must be new for every run: otherwise the rings of an earlier run would be mistaken for this run's.

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
    /// The file.
    pub path: PathBuf,
    /// Its header: per CPU the number of records, and how many were dropped, overwritten, torn.
    pub header: Header,
    /// The CPU time that draining the rings took after they were found, including polls that found nothing.
    pub drained: Duration,
}

impl Summary {
    /// Returns the number of records in the file.
    pub fn records(&self) -> u64 {
        self.header.cpus.iter().map(|cpu| cpu.records).sum()
    }
}
