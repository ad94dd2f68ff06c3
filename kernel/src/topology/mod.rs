//! Which CPUs the machine has: the MADT's entries become an ordered list of APIC ids.
//!
//! The table is firmware's and not trusted: [`Madt::parse`] checks its bytes, and [`enumerate`] takes CPUs from
//! nothing else. The `acpi` crate defines the entries' fields; its iterator is not used, because it trusts every
//! length: it loops forever on an entry of length 0, and reads one of a wrong length as if it were complete.
#![forbid(unsafe_code)]

use core::fmt;
use core::mem::offset_of;

use acpi::madt::{self, EntryHeader, LocalApicEntry, LocalX2ApicEntry};

use crate::cpu::ApicId;

/// Length of everything before the first entry: the ACPI header, the APIC's address, flags (ACPI 6.5,
/// table 5.19).
pub const MADT_HEADER_LEN: usize = size_of::<madt::Madt>();
const _: () = assert!(MADT_HEADER_LEN == 44, "the acpi crate's Madt is not ACPI's");

/// Processor local APIC: an entry's type (ACPI 6.5, table 5.21).
const TYPE_LOCAL_APIC: u8 = 0;
/// Processor local x2APIC: an entry's type (ACPI 6.5, table 5.34).
const TYPE_LOCAL_X2APIC: u8 = 9;

/// Bit 0 of an entry's flags, "enabled". Bit 1, "online capable", alone means a socket into which a CPU may
/// be put later (ACPI 6.5, table 5.22).
const ENABLED: u32 = 1 << 0;
/// The highest id that an IPI can address in xAPIC mode: the field has 8 bits, 0xff is broadcast (SDM 3A, 11.6.1).
const XAPIC_ID_MAX: u32 = 0xfe;

/// An entry of the MADT for a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MadtCpu {
    /// Type 0, processor local APIC.
    LocalApic {
        /// The id; 0xff is none.
        apic_id: u8,
        /// See ACPI 6.5, table 5.22.
        flags: u32,
    },
    /// Type 9, processor local x2APIC.
    X2Apic {
        /// The id; 0xffff_ffff is none.
        apic_id: u32,
        /// See ACPI 6.5, table 5.22.
        flags: u32,
    },
}

impl MadtCpu {
    /// Returns the id of a CPU that is present and may be started.
    fn enabled_id(self) -> Option<ApicId> {
        let (id, none, flags) = match self {
            MadtCpu::LocalApic { apic_id, flags } => (u32::from(apic_id), 0xff, flags),
            MadtCpu::X2Apic { apic_id, flags } => (apic_id, u32::MAX, flags),
        };
        let enabled = flags & ENABLED != 0;
        (id != none && enabled).then_some(ApicId(id))
    }
}

/// How the local APICs are addressed; firmware chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicMode {
    /// Memory-mapped, 8-bit ids.
    XApic,
    /// MSRs, 32-bit ids.
    X2Apic,
}

/// The result of [`enumerate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// CPUs written to the list, the BSP included.
    pub count: usize,
    /// Enabled CPUs left out because their ids cannot be addressed in xAPIC mode. Worth a warning.
    pub unreachable: usize,
    /// Whether the table lists the BSP as enabled. If not, the table is wrong; the BSP is CPU 0 all the same.
    /// Worth a warning.
    pub bsp_listed: bool,
}

/// The list is too short for the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListTooShort {
    /// CPUs that fit.
    pub len: usize,
}

impl fmt::Display for ListTooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the MADT names more CPUs than the {} it was sized for", self.len)
    }
}

impl core::error::Error for ListTooShort {}

/// Writes the APIC ids of all CPUs to the front of `list`: index 0 is the BSP, whose id was read from its APIC,
/// and the others follow in the order of the table, each once however often and with whichever type the table
/// lists it.
///
/// # Errors
/// [`ListTooShort`] if the list is; [`Madt::upper_bound`] elements suffice.
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
            // Firmware lists a CPU under both types for old operating systems, or twice by mistake.
        } else if mode == ApicMode::XApic && id.0 > XAPIC_ID_MAX {
            found.unreachable += 1;
        } else {
            *list.get_mut(found.count).ok_or(too_short)? = id;
            found.count += 1;
        }
    }
    Ok(found)
}

/// Why a MADT is rejected. Offsets count from the first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadtError {
    /// The table ends before its first entry could start.
    NoHeader {
        /// The table's length.
        len: usize,
    },
    /// One byte is left after the last entry, too little for type and length.
    Truncated {
        /// Its offset.
        offset: usize,
    },
    /// An entry's length is less than its type needs; with 0 the walk would not end.
    EntryTooShort {
        /// Where the entry starts.
        offset: usize,
        /// Its type.
        kind: u8,
        /// The entry's length field.
        len: u8,
    },
    /// An entry reaches beyond the table's end.
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
            MadtError::NoHeader { len } => write!(f, "it is only {len} bytes long"),
            MadtError::Truncated { offset } => write!(f, "it ends inside the entry at offset {offset}"),
            MadtError::EntryTooShort { offset, kind, len } => {
                write!(f, "the entry at offset {offset}, type {kind}, is only {len} bytes long")
            }
            MadtError::EntryTooLong { offset, kind, len } => {
                write!(f, "the entry at offset {offset}, type {kind}, has {len} bytes and overruns the table")
            }
        }
    }
}

impl core::error::Error for MadtError {}

/// Returns the minimum length of an entry: its header, and for a CPU the fields that are read. Other types are skipped.
pub(crate) const fn least_len(kind: u8) -> usize {
    match kind {
        TYPE_LOCAL_APIC => size_of::<LocalApicEntry>(),
        TYPE_LOCAL_X2APIC => size_of::<LocalX2ApicEntry>(),
        _ => size_of::<EntryHeader>(),
    }
}

/// A MADT whose entries are known to be inside it, one directly after the other.
#[derive(Clone, Copy, Debug)]
pub struct Madt<'a> {
    entries: &'a [u8],
}

impl<'a> Madt<'a> {
    /// Checks all entries of `table`, the complete table with its header.
    ///
    /// # Errors
    /// The first [`MadtError`].
    pub fn parse(table: &'a [u8]) -> Result<Madt<'a>, MadtError> {
        let entries = table.get(MADT_HEADER_LEN..).ok_or(MadtError::NoHeader { len: table.len() })?;
        Entries { bytes: entries, offset: 0 }.try_for_each(|entry| entry.map(|_| ()))?;
        Ok(Madt { entries })
    }

    /// Returns the maximum number of elements of a list for [`enumerate`]: the BSP, and each enabled entry.
    #[must_use]
    pub fn upper_bound(&self) -> usize {
        1 + self.enabled_ids().count()
    }

    /// Returns the ids of the CPUs that may be started, in the order of the table.
    fn enabled_ids(&self) -> impl Iterator<Item = ApicId> + Clone + use<'a> {
        // There is no error: `parse` has checked every entry.
        Entries { bytes: self.entries, offset: 0 }.filter_map(Result::ok).filter_map(MadtCpu::enabled_id)
    }
}

/// The CPUs in a MADT's entries. Ends after the first error.
#[derive(Clone, Debug)]
struct Entries<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Entries<'a> {
    /// Returns type and bytes of the current entry.
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
    type Item = Result<MadtCpu, MadtError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.offset < self.bytes.len() {
            match self.step() {
                Ok((TYPE_LOCAL_APIC, entry)) => {
                    let apic_id = entry[offset_of!(LocalApicEntry, apic_id)];
                    let flags = word(entry, offset_of!(LocalApicEntry, flags));
                    return Some(Ok(MadtCpu::LocalApic { apic_id, flags }));
                }
                Ok((TYPE_LOCAL_X2APIC, entry)) => {
                    let apic_id = word(entry, offset_of!(LocalX2ApicEntry, x2apic_id));
                    let flags = word(entry, offset_of!(LocalX2ApicEntry, flags));
                    return Some(Ok(MadtCpu::X2Apic { apic_id, flags }));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

/// Returns the little-endian word at this offset of an entry, which is at least [`least_len`] bytes long.
fn word(entry: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
}

#[cfg(test)]
mod tests;
