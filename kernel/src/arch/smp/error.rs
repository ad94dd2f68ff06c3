//! The errors of the bring-up.

use core::fmt;

use ap_trampoline::InstallError;

use crate::arch::memory::paging::{Audit, MapError};

/// The reason why the other CPUs cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmpError {
    /// There is not enough memory for stacks, tables or the trampoline.
    Memory(MapError),
    /// Memory below 1 MiB has no free page for the trampoline.
    NoLowPage,
    /// The trampoline rejects its parameters.
    Install(InstallError),
    /// The bring-up page tables violate W^X, or map a user-accessible page in the kernel's half.
    Audit(Audit),
}

impl fmt::Display for SmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmpError::Memory(error) => write!(f, "cannot start the other CPUs: {error}"),
            SmpError::NoLowPage => f.write_str("no free page below 1 MiB for the AP trampoline"),
            SmpError::Install(error) => error.fmt(f),
            SmpError::Audit(audit) => write!(f, "the bring-up page tables' mappings are wrong: {audit:?}"),
        }
    }
}

impl core::error::Error for SmpError {}

impl From<MapError> for SmpError {
    fn from(error: MapError) -> SmpError {
        SmpError::Memory(error)
    }
}
