//! Enumerates the machine's CPUs: converts the entries of the ACPI MADT to an ordered list of APIC ids.
//!
//! The MADT comes from firmware and is not trusted. [`Madt::parse`] checks the table, and [`enumerate`] accepts only a
//! checked table. The `acpi` crate defines the fields of the entries. Its iterator is not used because it trusts all
//! length fields: it loops forever on an entry of length 0, and reads an entry with a wrong length as if it were
//! complete.
#![forbid(unsafe_code)]

use core::fmt;
use core::mem::offset_of;

use acpi::madt::{self, EntryHeader, IoApicEntry, LocalApicEntry, LocalX2ApicEntry};

use crate::cpu::ApicId;

/// The length of the part before the first entry: the ACPI header, the local APIC address and the flags (ACPI 6.5,
/// table 5.19).
pub const MADT_HEADER_LEN: usize = size_of::<madt::Madt>();
const _: () = assert!(MADT_HEADER_LEN == 44, "the acpi crate's Madt does not match the ACPI specification");

/// Entry type of a processor local APIC (ACPI 6.5, table 5.21).
const TYPE_LOCAL_APIC: u8 = 0;
/// Entry type of an I/O APIC (ACPI 6.5, table 5.23).
const TYPE_IO_APIC: u8 = 1;
/// Entry type of a processor local x2APIC (ACPI 6.5, table 5.34).
const TYPE_LOCAL_X2APIC: u8 = 9;

/// Bit 0 of an entry's flags, "enabled". An entry with only bit 1, "online capable", is an empty socket for hot-plug
/// (ACPI 6.5, table 5.22).
const ENABLED: u32 = 1 << 0;
/// The highest id that an IPI can address in xAPIC mode. The destination field has 8 bits, and 0xff means broadcast
/// (SDM 3A, 11.6.1).
const XAPIC_ID_MAX: u32 = 0xfe;

/// An entry of the MADT that the kernel uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MadtEntry {
    /// Type 1, I/O APIC.
    IoApic {
        /// The physical address of the registers.
        address: u32,
    },
    /// Type 0, processor local APIC.
    XApicCpu {
        /// The APIC id; 0xff means no CPU.
        apic_id: u8,
        /// See ACPI 6.5, table 5.22.
        flags: u32,
    },
    /// Type 9, processor local x2APIC.
    X2ApicCpu {
        /// The APIC id; 0xffff_ffff means no CPU.
        apic_id: u32,
        /// See ACPI 6.5, table 5.22.
        flags: u32,
    },
}

impl MadtEntry {
    /// Returns the id of the entry's CPU if the CPU is present and may be started.
    fn enabled_id(self) -> Option<ApicId> {
        let (id, none, flags) = match self {
            MadtEntry::IoApic { .. } => return None,
            MadtEntry::XApicCpu { apic_id, flags } => (u32::from(apic_id), 0xff, flags),
            MadtEntry::X2ApicCpu { apic_id, flags } => (apic_id, u32::MAX, flags),
        };
        let enabled = flags & ENABLED != 0;
        (id != none && enabled).then_some(ApicId(id))
    }
}

/// The mode in which local APICs are addressed, chosen by firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicMode {
    /// Memory-mapped registers, 8-bit ids.
    XApic,
    /// Registers in MSRs, 32-bit ids.
    X2Apic,
}

/// The result of [`enumerate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The number of CPUs written to the list, the BSP included.
    pub count: usize,
    /// The number of enabled CPUs omitted because xAPIC mode cannot address their ids. The caller should warn about
    /// them.
    pub unreachable: usize,
    /// Whether the table lists the BSP as enabled. If not, the table is wrong, and the caller should print a warning.
    /// The BSP is CPU 0 in any case.
    pub bsp_listed: bool,
}

/// The error if the list is too short for the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListTooShort {
    /// The length of the list.
    pub len: usize,
}

impl fmt::Display for ListTooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the MADT lists more CPUs than the {} that the list has room for", self.len)
    }
}

impl core::error::Error for ListTooShort {}

/// Writes the APIC ids of all CPUs to the start of `list`. Index 0 is the BSP, whose id was read from its APIC. The
/// other CPUs follow in the order of the table, each exactly once, even if the table lists a CPU several times or with
/// both types.
///
/// # Errors
/// [`ListTooShort`] if `list` is too short. [`Madt::upper_bound`] elements are enough.
pub fn enumerate(
    madt: &Madt<'_>,
    bsp: ApicId,
    mode: ApicMode,
    list: &mut [ApicId],
) -> Result<Topology, ListTooShort> {
    let too_short = ListTooShort { len: list.len() };
    *list.first_mut().ok_or(too_short)? = bsp;
    let mut found = Topology { count: 1, unreachable: 0, bsp_listed: false };

    let ids = madt.enabled_ids();
    for (n, id) in ids.clone().enumerate() {
        if id == bsp {
            found.bsp_listed = true;
        } else if ids.clone().take(n).any(|earlier| earlier == id) {
            // Firmware may list a CPU with both types for old operating systems, or twice by mistake.
        } else if mode == ApicMode::XApic && id.0 > XAPIC_ID_MAX {
            found.unreachable += 1;
        } else {
            *list.get_mut(found.count).ok_or(too_short)? = id;
            found.count += 1;
        }
    }
    Ok(found)
}

/// The reason why a MADT is rejected. Offsets are relative to the first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadtError {
    /// The table is shorter than its header.
    NoHeader {
        /// The table's length.
        len: usize,
    },
    /// One byte is left after the last entry, which is too short for type and length.
    Truncated {
        /// The offset of that byte.
        offset: usize,
    },
    /// An entry's length is less than its type requires. With length 0, the walk would not end.
    EntryTooShort {
        /// Where the entry starts.
        offset: usize,
        /// Its type.
        kind: u8,
        /// The entry's length field.
        len: u8,
    },
    /// An entry extends beyond the table's end.
    EntryTooLong {
        /// Where the entry starts.
        offset: usize,
        /// Its type.
        kind: u8,
        /// The entry's length field.
        len: u8,
    },
}

impl fmt::Display for MadtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the firmware's list of CPUs (ACPI MADT) is broken: ")?;
        match self {
            MadtError::NoHeader { len } => write!(f, "the table is only {len} bytes long"),
            MadtError::Truncated { offset } => {
                write!(f, "the table ends inside the entry at offset {offset}")
            }
            MadtError::EntryTooShort { offset, kind, len } => {
                write!(f, "the entry at offset {offset}, type {kind}, is only {len} bytes long")
            }
            MadtError::EntryTooLong { offset, kind, len } => {
                write!(
                    f,
                    "the entry at offset {offset}, type {kind}, has {len} bytes and extends beyond the table"
                )
            }
        }
    }
}

impl core::error::Error for MadtError {}

/// Returns the minimum length of an entry: the entry header, and for the types that this module reads also their fields.
pub(crate) const fn least_len(kind: u8) -> usize {
    match kind {
        TYPE_LOCAL_APIC => size_of::<LocalApicEntry>(),
        TYPE_IO_APIC => size_of::<IoApicEntry>(),
        TYPE_LOCAL_X2APIC => size_of::<LocalX2ApicEntry>(),
        _ => size_of::<EntryHeader>(),
    }
}

/// A checked MADT. Its entries are contiguous and lie completely inside the table.
#[derive(Clone, Copy, Debug)]
pub struct Madt<'a> {
    entries: &'a [u8],
}

impl<'a> Madt<'a> {
    /// Checks all entries of `table`, which is the complete table with its header.
    ///
    /// # Errors
    /// The first [`MadtError`].
    pub fn parse(table: &'a [u8]) -> Result<Madt<'a>, MadtError> {
        let entries = table.get(MADT_HEADER_LEN..).ok_or(MadtError::NoHeader { len: table.len() })?;
        Entries { bytes: entries, offset: 0 }.try_for_each(|entry| entry.map(|_| ()))?;
        Ok(Madt { entries })
    }

    /// Returns a list length that is always enough for [`enumerate`]: one element for the BSP and one for each enabled
    /// entry.
    #[must_use]
    pub fn upper_bound(&self) -> usize {
        1 + self.enabled_ids().count()
    }

    /// Returns the ids of the CPUs that may be started, in the order of the table.
    fn enabled_ids(&self) -> impl Iterator<Item = ApicId> + Clone + use<'a> {
        self.walk().filter_map(MadtEntry::enabled_id)
    }

    /// Returns the physical addresses of the I/O APICs, in the order of the table.
    pub fn io_apics(&self) -> impl Iterator<Item = u64> + use<'a> {
        self.walk().filter_map(|entry| match entry {
            MadtEntry::IoApic { address } => Some(address.into()),
            _ => None,
        })
    }

    /// Returns the entries. None is an error, because `parse` has checked them all.
    fn walk(&self) -> impl Iterator<Item = MadtEntry> + Clone + use<'a> {
        Entries { bytes: self.entries, offset: 0 }.filter_map(Result::ok)
    }
}

/// Iterates over the CPUs and I/O APICs in a MADT's entries. Ends after the first error.
#[derive(Clone, Debug)]
struct Entries<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Entries<'a> {
    /// Returns the type and the bytes of the next entry, and advances past it.
    fn step(&mut self) -> Result<(u8, &'a [u8]), MadtError> {
        let offset = self.offset;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        // An error ends the walk.
        self.offset = self.bytes.len();
        let &[kind, len, ..] = rest else { return Err(MadtError::Truncated { offset }) };
        if usize::from(len) < least_len(kind) {
            return Err(MadtError::EntryTooShort { offset, kind, len });
        }
        let entry = rest.get(..usize::from(len)).ok_or(MadtError::EntryTooLong { offset, kind, len })?;
        self.offset = offset + entry.len();
        Ok((kind, entry))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<MadtEntry, MadtError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.offset < self.bytes.len() {
            match self.step() {
                Ok((TYPE_LOCAL_APIC, entry)) => {
                    let apic_id = entry[offset_of!(LocalApicEntry, apic_id)];
                    let flags = word(entry, offset_of!(LocalApicEntry, flags));
                    return Some(Ok(MadtEntry::XApicCpu { apic_id, flags }));
                }
                Ok((TYPE_IO_APIC, entry)) => {
                    let address = word(entry, offset_of!(IoApicEntry, io_apic_address));
                    return Some(Ok(MadtEntry::IoApic { address }));
                }
                Ok((TYPE_LOCAL_X2APIC, entry)) => {
                    let apic_id = word(entry, offset_of!(LocalX2ApicEntry, x2apic_id));
                    let flags = word(entry, offset_of!(LocalX2ApicEntry, flags));
                    return Some(Ok(MadtEntry::X2ApicCpu { apic_id, flags }));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

/// Returns the little-endian word at this offset of an entry. The entry is at least [`least_len`] bytes long.
fn word(entry: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
}

#[cfg(test)]
mod tests;
