//! The errors of the bring-up.

use core::fmt;

use ap_trampoline::InstallError;

use crate::arch::interrupts::timer::TimerError;
use crate::arch::memory::paging::{Audit, MapError};
use crate::plural::Count;

/// The reason why the other CPUs cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmpError {
    /// There is not enough memory for stacks, tables or the trampoline.
    Memory(MapError),
    /// There is not enough memory for the stacks and the data of all CPUs.
    TooLittleMemory {
        /// The number of CPUs to start.
        cpus: u64,
        /// The memory that each of them needs, in KiB.
        each_kib: u64,
        /// The free memory, in KiB.
        free_kib: u64,
        /// The minimum usable memory of the machine, in KiB.
        least_kib: u64,
    },
    /// Memory below 1 MiB has no free page for the trampoline.
    NoLowPage,
    /// The trampoline rejects its parameters.
    Install(InstallError),
    /// The bring-up page tables violate W^X, or map a user-accessible page in the kernel's half.
    Audit(Audit),
    /// A clock cannot be measured.
    Clock(TimerError),
}

impl fmt::Display for SmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmpError::Memory(error) => write!(f, "cannot start the other CPUs: {error}"),
            SmpError::TooLittleMemory { cpus, each_kib, free_kib, least_kib } => write!(
                f,
                "cannot start {}: each needs {each_kib} KiB for its stacks and data, and its copy of the program needs \
                 more, but {free_kib} KiB of memory are free; give the machine more than {} MiB of usable memory",
                Count(*cpus, "other CPU"),
                least_kib.div_ceil(1024)
            ),
            SmpError::NoLowPage => f.write_str("no free page below 1 MiB for the AP trampoline"),
            SmpError::Install(error) => error.fmt(f),
            SmpError::Audit(audit) => write!(f, "the bring-up page tables' mappings are wrong: {audit:?}"),
            SmpError::Clock(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SmpError {}

impl From<TimerError> for SmpError {
    fn from(error: TimerError) -> SmpError {
        SmpError::Clock(error)
    }
}

impl From<MapError> for SmpError {
    fn from(error: MapError) -> SmpError {
        SmpError::Memory(error)
    }
}
