//! The option `firmware_fault=`: broken ACPI tables, to test that the kernel reports them and runs without the
//! information in them.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};

/// A fault of the firmware's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareFault {
    /// There is no RSDP.
    NoRsdp,
    /// The RSDP's checksum is wrong.
    RsdpChecksum,
    /// The root table's checksum is wrong.
    RootChecksum,
    /// There is no MADT.
    NoMadt,
    /// The MADT's checksum is wrong.
    MadtChecksum,
    /// The MADT's length field gives 1 GiB.
    MadtLength,
    /// The MADT's first entry has length 0.
    MadtEntry,
    /// The MADT lists no CPU as enabled.
    MadtNoCpu,
    /// The MADT does not list the BSP as enabled.
    MadtNoBsp,
}

impl FirmwareFault {
    /// All faults, each with its name on the command line.
    pub const ALL: [(&'static str, FirmwareFault); 9] = [
        ("no-rsdp", FirmwareFault::NoRsdp),
        ("rsdp-checksum", FirmwareFault::RsdpChecksum),
        ("root-checksum", FirmwareFault::RootChecksum),
        ("no-madt", FirmwareFault::NoMadt),
        ("madt-checksum", FirmwareFault::MadtChecksum),
        ("madt-length", FirmwareFault::MadtLength),
        ("madt-entry", FirmwareFault::MadtEntry),
        ("madt-no-cpu", FirmwareFault::MadtNoCpu),
        ("madt-no-bsp", FirmwareFault::MadtNoBsp),
    ];

    /// Returns the fault with this name.
    pub(super) fn named(value: Token<'_>) -> Result<FirmwareFault, CmdlineError<'_>> {
        let found = FirmwareFault::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, fault)| fault).ok_or(CmdlineError::BadValue(Key::FirmwareFault, value))
    }
}
