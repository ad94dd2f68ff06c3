//! Which CPUs does this machine have? MADT entries become an ordered list of APIC ids.
//!
//! The table is firmware's, and not to be trusted: [`validate`] its bytes before anything else reads them.
#![forbid(unsafe_code)]

use core::fmt;

use acpi::madt;

use crate::cpu::ApicId;

/// Length of what stands before the first entry: the ACPI header, the APIC's address, flags (ACPI 6.5,
/// table 5.19). The functions here take the bytes behind it.
pub const MADT_HEADER_LEN: usize = 44;

/// Bit 0 of an entry's flags, "enabled". Bit 1, "online capable", alone means a socket into which a CPU may
/// be put later (ACPI 6.5, table 5.22).
const ENABLED: u32 = 1 << 0;
/// The highest id that an IPI can name in xAPIC mode: the field has 8 bits, 0xff is everyone (SDM 3A, 11.6.1).
const XAPIC_ID_MAX: u32 = 0xfe;

/// An entry of the MADT that names a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadtCpu {
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
    /// The id of a CPU that is there and may be started.
    fn enabled_id(self) -> Option<ApicId> {
        let (id, none, flags) = match self {
            MadtCpu::LocalApic { apic_id, flags } => (u32::from(apic_id), 0xff, flags),
            MadtCpu::X2Apic { apic_id, flags } => (apic_id, u32::MAX, flags),
        };
        let enabled = flags & ENABLED != 0 || cfg!(feature = "mutant-madt-any-flags");
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

/// What [`enumerate`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// CPUs written to the list, the BSP included.
    pub count: usize,
    /// Enabled CPUs left out because their ids cannot be addressed in xAPIC mode. Worth a warning.
    pub unreachable: usize,
    /// Does the table list the BSP as enabled? If not, firmware is wrong somewhere; the BSP is CPU 0 still.
    /// Worth a warning.
    pub bsp_listed: bool,
}

/// The list was too short for the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListTooShort {
    /// CPUs that did fit.
    pub len: usize,
}

impl fmt::Display for ListTooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the MADT names more CPUs than the {} it was sized for", self.len)
    }
}

impl core::error::Error for ListTooShort {}

/// How many elements a list for [`enumerate`] needs at most: the BSP, and each enabled entry.
pub fn upper_bound(entries: impl IntoIterator<Item = MadtCpu>) -> usize {
    1 + entries.into_iter().filter_map(MadtCpu::enabled_id).count()
}

/// Writes the APIC ids of all CPUs to the front of `list`: index 0 is the BSP, whose id the hardware told,
/// and the others follow in the order of the table, each once however often and by whichever type the table
/// names it.
///
/// # Errors
/// [`ListTooShort`] if the list is; [`upper_bound`] elements suffice.
pub fn enumerate<E>(
    entries: E,
    bsp: ApicId,
    mode: ApicMode,
    list: &mut [ApicId],
) -> Result<Topology, ListTooShort>
where
    E: Iterator<Item = MadtCpu> + Clone,
{
    let too_short = ListTooShort { len: list.len() };
    *list.first_mut().ok_or(too_short)? = bsp;
    let mut found = Topology { count: 1, unreachable: 0, bsp_listed: false };

    let ids = entries.filter_map(MadtCpu::enabled_id);
    for (n, id) in ids.clone().enumerate() {
        if id == bsp {
            found.bsp_listed = true;
        } else if ids.clone().take(n).any(|earlier| earlier == id) {
            // Firmware lists a CPU under both types to please old systems, or twice by mistake.
        } else if mode == ApicMode::XApic && id.0 > XAPIC_ID_MAX {
            found.unreachable += 1;
        } else {
            *list.get_mut(found.count).ok_or(too_short)? = id;
            found.count += 1;
        }
    }
    Ok(found)
}

/// What is wrong with a MADT. Offsets count from the first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadtError {
    /// A byte is left over behind the last entry, too little for type and length.
    Truncated {
        /// Where it is.
        offset: usize,
    },
    /// An entry's length is less than its type needs; 0 would be read for ever.
    EntryTooShort {
        /// Where the entry starts.
        offset: usize,
        /// Its type.
        kind: u8,
        /// The length it claims.
        len: u8,
    },
    /// An entry reaches beyond the table's end.
    EntryTooLong {
        /// Where the entry starts.
        offset: usize,
        /// Its type.
        kind: u8,
        /// The length it claims.
        len: u8,
    },
}

impl fmt::Display for MadtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the firmware's list of CPUs (ACPI MADT) is broken: ")?;
        match self {
            MadtError::Truncated { offset } => write!(f, "it breaks off inside the entry at offset {offset}"),
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

/// The least length of an entry: what the `acpi` crate reads of it. It makes a reference of the whole
/// structure without looking at the length that the entry claims.
pub(crate) const fn least_len(kind: u8) -> usize {
    match kind {
        0x0 => size_of::<madt::LocalApicEntry>(),
        0x1 => size_of::<madt::IoApicEntry>(),
        0x2 => size_of::<madt::InterruptSourceOverrideEntry>(),
        0x3 => size_of::<madt::NmiSourceEntry>(),
        0x4 => size_of::<madt::LocalApicNmiEntry>(),
        0x5 => size_of::<madt::LocalApicAddressOverrideEntry>(),
        0x6 => size_of::<madt::IoSapicEntry>(),
        0x7 => size_of::<madt::LocalSapicEntry>(),
        0x8 => size_of::<madt::PlatformInterruptSourceEntry>(),
        0x9 => size_of::<madt::LocalX2ApicEntry>(),
        0xa => size_of::<madt::X2ApicNmiEntry>(),
        0xb => size_of::<madt::GiccEntry>(),
        0xc => size_of::<madt::GicdEntry>(),
        0xd => size_of::<madt::GicMsiFrameEntry>(),
        0xe => size_of::<madt::GicRedistributorEntry>(),
        0xf => size_of::<madt::GicInterruptTranslationServiceEntry>(),
        0x10 => size_of::<madt::MultiprocessorWakeupEntry>(),
        _ => size_of::<madt::EntryHeader>(),
    }
}

/// The CPUs in a MADT's entries, `bytes` being what follows [`MADT_HEADER_LEN`]. Ends behind the first error.
#[must_use]
pub const fn entries(bytes: &[u8]) -> Entries<'_> {
    Entries { bytes, offset: 0 }
}

/// Reads all entries once: if this is `Ok`, a walk over them ends and stays inside of the table.
///
/// # Errors
/// The first [`MadtError`].
pub fn validate(bytes: &[u8]) -> Result<(), MadtError> {
    entries(bytes).try_for_each(|entry| entry.map(|_| ()))
}

/// See [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Entries<'a> {
    /// Type and bytes of the entry that the iterator is at.
    fn step(&mut self) -> Result<(u8, &'a [u8]), MadtError> {
        let offset = self.offset;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        // Whatever comes out, an error ends the walk.
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
                // Offsets: ACPI 6.5, tables 5.21 and 5.34.
                Ok((0, &[_, _, _, apic_id, a, b, c, d, ..])) => {
                    return Some(Ok(MadtCpu::LocalApic { apic_id, flags: u32::from_le_bytes([a, b, c, d]) }));
                }
                Ok((9, &[_, _, _, _, i, j, k, l, a, b, c, d, ..])) => {
                    let apic_id = u32::from_le_bytes([i, j, k, l]);
                    return Some(Ok(MadtCpu::X2Apic { apic_id, flags: u32::from_le_bytes([a, b, c, d]) }));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
