//! Finds and checks the ACPI tables, which come from firmware and are not trusted.
//!
//! The `acpi` crate defines the contents of the tables. Its own search is not used because it trusts all length fields:
//! it reads beyond the mapping of a table whose length is wrong, adds up as many bytes as the RSDP's length field
//! states, and reads a FADT that is shorter than the crate's type as if it were complete.
#![forbid(unsafe_code)]

mod error;

use core::mem::offset_of;

use acpi::rsdp::Rsdp;
use acpi::sdt::SdtHeader;

pub use self::error::{Name, TableError};

/// The longest accepted table, in bytes. DSDTs have a few hundred KiB, other tables far less.
pub const TABLE_MAX: usize = 16 << 20;

/// The length of a table's header (ACPI 6.5, table 5.4).
pub const HEADER_LEN: usize = size_of::<SdtHeader>();
const _: () = assert!(HEADER_LEN == 36, "the acpi crate's SdtHeader does not match the ACPI specification");

/// The part of an RSDP that its checksum covers, the complete RSDP of revision 0 (ACPI 6.5, table 5.3).
const RSDP_V1_LEN: usize = 20;
/// The length of an RSDP of revision 2.
const RSDP_V2_LEN: usize = 36;
const _: () = assert!(size_of::<Rsdp>() == RSDP_V2_LEN, "the acpi crate's Rsdp has another length");
/// The longest accepted RSDP, in bytes. Later revisions may be longer than revision 2.
const RSDP_MAX: usize = 4096;

// The offsets in an RSDP (ACPI 6.5, table 5.3), whose fields the crate does not make public.
const RSDP_REVISION: usize = 15;
const RSDP_RSDT: usize = 16;
const RSDP_LENGTH: usize = 20;
const RSDP_XSDT: usize = 24;

/// The physical memory that holds the tables.
pub trait PhysicalMemory<'a> {
    /// Returns the bytes at a physical address, or `None` if there is no memory.
    fn bytes(&self, address: u64, len: usize) -> Option<&'a [u8]>;
}

/// A checked table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// The physical address.
    pub address: u64,
    /// The complete table: at least [`HEADER_LEN`] bytes.
    pub bytes: &'a [u8],
}

/// The tables that a checked root table lists.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a, M> {
    memory: M,
    /// The root table.
    pub root: Table<'a>,
    /// The length of an address in the root table, in bytes.
    address_len: usize,
}

impl<'a, M: PhysicalMemory<'a>> Tables<'a, M> {
    /// Checks the RSDP at this physical address, and the root table to which it points. 0 means that there is no RSDP.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn find(memory: M, rsdp: u64) -> Result<Tables<'a, M>, TableError> {
        if rsdp == 0 {
            return Err(TableError::NoRsdp);
        }
        let name = Name::RSDP;
        let read = |len| memory.bytes(rsdp, len).ok_or(TableError::Unmapped { name, address: rsdp, len });
        let first = read(RSDP_V1_LEN)?;
        if !first.starts_with(b"RSD PTR ") {
            return Err(TableError::Signature { name, address: rsdp });
        }
        let mut valid = sum(first) == 0;
        let mut root = (Name::RSDT, 4, number(&first[RSDP_RSDT..], 4));
        if first[RSDP_REVISION] >= 2 {
            let len = number(&read(RSDP_V2_LEN)?[RSDP_LENGTH..], 4);
            let invalid = TableError::Length { name, address: rsdp, len: len as u32 };
            let len = usize::try_from(len).ok().filter(|len| (RSDP_V2_LEN..=RSDP_MAX).contains(len));
            let all = read(len.ok_or(invalid)?)?;
            valid &= sum(all) == 0;
            // Some firmware has no root table with 64-bit addresses.
            let xsdt = number(&all[RSDP_XSDT..], 8);
            if xsdt != 0 {
                root = (Name::XSDT, 8, xsdt);
            }
        }
        if !valid {
            return Err(TableError::Checksum { name, address: rsdp });
        }
        let (name, address_len, root) = root;
        let root = checked(&memory, name, root)?;
        Ok(Tables { memory, root, address_len })
    }

    /// Finds a table and checks its length and its checksum. If several have this name, returns the first one that is
    /// valid.
    ///
    /// # Errors
    /// [`TableError`], with the error in the first table that has this name.
    pub fn table(&self, name: Name) -> Result<Table<'a>, TableError> {
        let mut error = TableError::Missing(name);
        for address in self.root.bytes[HEADER_LEN..].chunks_exact(self.address_len) {
            match checked(&self.memory, name, number(address, self.address_len)) {
                Ok(table) => return Ok(table),
                // Most of the addresses are those of tables with other names. An address without memory may belong to
                // any table.
                Err(TableError::Signature { .. } | TableError::Unmapped { len: HEADER_LEN, .. }) => {}
                Err(found) if error == TableError::Missing(name) => error = found,
                Err(_) => {}
            }
        }
        Err(error)
    }

    /// Checks the table at a physical address that another table contains.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn table_at(&self, name: Name, address: u64) -> Result<Table<'a>, TableError> {
        checked(&self.memory, name, address)
    }
}

/// Reads the table at this address and checks its name, its length and its checksum.
fn checked<'a>(memory: &impl PhysicalMemory<'a>, name: Name, address: u64) -> Result<Table<'a>, TableError> {
    let read = |len| memory.bytes(address, len).ok_or(TableError::Unmapped { name, address, len });
    let header = read(HEADER_LEN)?;
    if !header.starts_with(&name.0) {
        return Err(TableError::Signature { name, address });
    }
    let len = number(&header[offset_of!(SdtHeader, length)..], 4) as u32;
    if !(HEADER_LEN..=TABLE_MAX).contains(&(len as usize)) {
        return Err(TableError::Length { name, address, len });
    }
    let bytes = read(len as usize)?;
    if sum(bytes) != 0 {
        return Err(TableError::Checksum { name, address });
    }
    Ok(Table { address, bytes })
}

/// Returns the sum of all bytes modulo 256, which is 0 for a valid table.
#[must_use]
pub fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// Returns the little-endian number in the first `len` bytes, at most 8.
pub(crate) fn number(bytes: &[u8], len: usize) -> u64 {
    bytes[..len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The contents of the table of the high-precision event timer (IA-PC HPET specification 1.0a, 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hpet {
    /// The physical address of the registers.
    pub address: u64,
}

impl Hpet {
    /// The table's length in bytes.
    const LEN: usize = 56;
    /// The offset of the registers' generic address: address space, width, offset, access size, address.
    const REGISTERS: usize = 40;

    /// Reads the table. Returns `None` if it is too short, or if the registers are not in memory or not aligned.
    #[must_use]
    pub fn parse(table: &[u8]) -> Option<Hpet> {
        let registers = table.get(..Self::LEN)?.get(Self::REGISTERS..)?;
        let address = number(&registers[4..], 8);
        // Address space 0 is memory (ACPI 6.5, table 5.1).
        (registers[0] == 0 && address != 0 && address.is_multiple_of(1024)).then_some(Hpet { address })
    }
}

#[cfg(test)]
mod tests;
