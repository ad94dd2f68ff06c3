//! Corrupts the firmware's tables, to test that the kernel reports them and runs without the information in them.

use crate::acpi_tables::{Name, Table};
use crate::arch::memory::acpi::Tables;
use crate::arch::memory::physmem;
use crate::arch::percpu::PerCpuData;
use crate::cmdline::FirmwareFault;
use crate::physmap::phys_to_virt;
use crate::topology::MADT_HEADER_LEN;

/// The offset of the length in a table's header (ACPI 6.5, table 5.4).
const LENGTH: usize = 4;
/// The offset of the checksum in a table's header.
const CHECKSUM: usize = 9;
/// The offset of the checksum in the RSDP, and its length (ACPI 6.5, table 5.3).
const RSDP_CHECKSUM: usize = 8;
const RSDP_LEN: usize = 36;

/// Corrupts the tables as requested. Returns the address of the RSDP from now on. Tables that are broken already stay
/// as they are.
///
/// # Safety
/// As for [`Tables::find`]. Nothing has read the tables, except by this function.
pub unsafe fn break_tables(bsp: &PerCpuData, fault: Option<FirmwareFault>, rsdp: u64) -> u64 {
    let Some(fault) = fault else { return rsdp };
    // SAFETY: guaranteed by the caller.
    let found = unsafe { Tables::find(rsdp) };
    let Ok(tables) = found else { return rsdp };
    let (root, madt) = (Raw::of(tables.root()), tables.table(Name::MADT).map(Raw::of));
    match (fault, madt) {
        (FirmwareFault::NoRsdp, _) => return 0,
        (FirmwareFault::RsdpChecksum, _) => return copy_of_rsdp(rsdp).unwrap_or(rsdp),
        (FirmwareFault::RootChecksum, _) => root.flip(CHECKSUM),
        (FirmwareFault::NoMadt, Ok(madt)) => madt.flip(0),
        (FirmwareFault::MadtChecksum, Ok(madt)) => madt.flip(CHECKSUM),
        (FirmwareFault::MadtLength, Ok(madt)) => madt.write(LENGTH + 3, 0x40),
        (FirmwareFault::MadtEntry, Ok(madt)) => {
            madt.write(MADT_HEADER_LEN + 1, 0);
            madt.repair();
        }
        (FirmwareFault::MadtNoCpu, Ok(madt)) => madt.disable(|_| true),
        (FirmwareFault::MadtNoBsp, Ok(madt)) => madt.disable(|id| id == bsp.apic_id.0),
        (_, Err(_)) => {}
    }
    rsdp
}

/// Copies the RSDP, which may lie in read-only memory, and changes the copy's checksum.
fn copy_of_rsdp(rsdp: u64) -> Option<u64> {
    let frame = physmem::alloc_zeroed()?;
    let (from, to) = (phys_to_virt(rsdp), phys_to_virt(frame.start()));
    // SAFETY: `Tables::find` has mapped the RSDP, and the frame belongs to this function alone (invariant: OWN-FRAMES).
    unsafe {
        to.copy_from_nonoverlapping(from, RSDP_LEN);
        *to.add(RSDP_CHECKSUM) ^= 1;
    }
    Some(frame.start())
}

/// A table in memory that [`Tables::find`] has mapped, without references to it, because it is changed.
#[derive(Clone, Copy)]
struct Raw {
    first: *mut u8,
    len: usize,
}

impl Raw {
    fn of(table: Table<'_>) -> Raw {
        Raw { first: phys_to_virt(table.address), len: table.bytes.len() }
    }

    fn read(self, at: usize) -> u8 {
        assert!(at < self.len, "a byte outside a table is read");
        // SAFETY: the byte is in the table, which is mapped (see the type).
        unsafe { self.first.add(at).read_volatile() }
    }

    fn write(self, at: usize, value: u8) {
        assert!(at < self.len, "a byte outside a table is written");
        // SAFETY: the byte is in the table, which is mapped writable and to which no reference is in use any more (see
        // the type).
        unsafe { self.first.add(at).write_volatile(value) };
    }

    fn flip(self, at: usize) {
        self.write(at, self.read(at) ^ 1);
    }

    /// Clears the flags of the CPUs whose APIC id the function selects.
    fn disable(self, selects: impl Fn(u32) -> bool) {
        let mut at = MADT_HEADER_LEN;
        while at < self.len && self.read(at + 1) != 0 {
            // The offsets of the APIC id and of the flags (ACPI 6.5, tables 5.21 and 5.34).
            let found = match self.read(at) {
                0 => Some((u32::from(self.read(at + 3)), 4)),
                9 => Some((u32::from_le_bytes([4, 5, 6, 7].map(|n| self.read(at + n))), 8)),
                _ => None,
            };
            if let Some((_, flags)) = found.filter(|(id, _)| selects(*id)) {
                self.write(at + flags, 0);
            }
            at += usize::from(self.read(at + 1));
        }
        self.repair();
    }

    /// Makes the checksum valid again.
    fn repair(self) {
        self.write(CHECKSUM, 0);
        let sum = (0..self.len).fold(0, |sum: u8, at| sum.wrapping_add(self.read(at)));
        self.write(CHECKSUM, sum.wrapping_neg());
    }
}
