//! The reasons why an ACPI table is rejected.
#![forbid(unsafe_code)]

use core::fmt;

/// The name of a table: its signature. The name of the RSDP is `RSDP`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name(pub [u8; 4]);

impl Name {
    /// The RSDP, whose signature has 8 bytes.
    pub const RSDP: Name = Name(*b"RSDP");
    /// The root table with 32-bit addresses.
    pub const RSDT: Name = Name(*b"RSDT");
    /// The root table with 64-bit addresses.
    pub const XSDT: Name = Name(*b"XSDT");
    /// The MADT, which lists the CPUs.
    pub const MADT: Name = Name(*b"APIC");
    /// The FADT, which describes the fixed hardware.
    pub const FADT: Name = Name(*b"FACP");
    /// The DSDT, which holds byte code. The FADT has its address.
    pub const DSDT: Name = Name(*b"DSDT");
    /// The table of the high-precision event timer.
    pub const HPET: Name = Name(*b"HPET");
    /// The table of the serial console.
    pub const SPCR: Name = Name(*b"SPCR");
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Name::MADT => f.write_str("MADT"),
            Name::FADT => f.write_str("FADT"),
            Name(signature) => signature.escape_ascii().fmt(f),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The reason why a table cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The loader passed no RSDP.
    NoRsdp,
    /// No root table lists the table.
    Missing(Name),
    /// The table does not lie in physical memory.
    Unmapped {
        /// The table.
        name: Name,
        /// Its physical address.
        address: u64,
        /// Its length in bytes.
        len: usize,
    },
    /// Another signature is at the table's address.
    Signature {
        /// The table.
        name: Name,
        /// Its physical address.
        address: u64,
    },
    /// The table's length is less than that of its header, or more than [`TABLE_MAX`](super::TABLE_MAX).
    Length {
        /// The table.
        name: Name,
        /// Its physical address.
        address: u64,
        /// The length in the header, in bytes.
        len: u32,
    },
    /// The bytes of the table do not add up to 0.
    Checksum {
        /// The table.
        name: Name,
        /// Its physical address.
        address: u64,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TableError::NoRsdp => f.write_str("the loader gave no ACPI root pointer (RSDP)"),
            TableError::Missing(name) => write!(f, "the firmware has no ACPI {name}"),
            TableError::Unmapped { name, address, len } => write!(
                f,
                "the firmware's ACPI {name} at {address:#x}, {len} bytes long, does not lie in physical memory"
            ),
            TableError::Signature { name, address } => {
                write!(f, "the firmware's ACPI {name} at {address:#x} has the wrong signature")
            }
            TableError::Length { name, address, len } => {
                write!(f, "the firmware's ACPI {name} at {address:#x} has an invalid length of {len} bytes")
            }
            TableError::Checksum { name, address } => {
                write!(f, "the firmware's ACPI {name} at {address:#x} has a wrong checksum")
            }
        }
    }
}

impl core::error::Error for TableError {}
