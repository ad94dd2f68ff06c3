//! From rings in a guest's memory to a trace file.
//!
//! The memory is the file of QEMU's `memory-backend-file` with `share=on`: whatever the guest writes is in it at
//! once, and stays there when the guest panics, hangs or is gone.
//!
//! * [`flight`], after the run: what survived in each ring.
//! * [`Drain`], during the run: a thread that empties the rings as they fill.
//!
//! The file has to be a new one for every run: the rings of an earlier run would be taken for this one's.

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

/// A trace file that was captured.
#[derive(Debug)]
pub struct Summary {
    /// The file.
    pub path: PathBuf,
    /// What it says about its records: per CPU how many there are, were dropped, overwritten, torn.
    pub header: Header,
    /// The processor time that it took to empty the rings from when they were found, the looks in vain included.
    pub drained: Duration,
}

impl Summary {
    /// Records in the file.
    pub fn records(&self) -> u64 {
        self.header.cpus.iter().map(|cpu| cpu.records).sum()
    }
}
