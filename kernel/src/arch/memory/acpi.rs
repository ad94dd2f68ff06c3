//! Reads the firmware's tables: the MADT lists the CPUs, the FADT reports the power-management timer, the reset register
//! and how the machine is powered off.

use core::{fmt, ptr, slice};

use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use kernel_abi::layout::PAGE_SIZE;

use crate::acpi_tables::{self, HEADER_LEN, Hpet, Name, PhysicalMemory, Table, TableError};
use crate::arch::memory::paging::{self, MapError};
use crate::arch::memory::physmem;
use crate::layout::{PHYSMAP_BASE, PHYSMAP_SIZE};
use crate::physmap::phys_to_virt;
use crate::power::{Power, ResetRegister, SleepControl, soft_off_types};
use crate::spcr::SerialConsole;
use crate::topology::{self, MadtError};

/// The reason why the firmware's tables cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareError {
    /// A table is missing, or its length, signature or checksum is wrong.
    Table(TableError),
    /// The MADT's entries cannot be walked.
    Madt(MadtError),
}

impl fmt::Display for FirmwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FirmwareError::Table(error) => error.fmt(f),
            FirmwareError::Madt(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for FirmwareError {}

impl From<TableError> for FirmwareError {
    fn from(error: TableError) -> FirmwareError {
        FirmwareError::Table(error)
    }
}

/// Accesses the tables in place, through the physical map.
#[derive(Clone, Copy, Debug)]
struct PhysMap {
    /// One past the highest address that may be mapped.
    end: u64,
}

impl PhysMap {
    fn new() -> PhysMap {
        PhysMap { end: PHYSMAP_SIZE.min(physmem::address_end()) }
    }
}

impl PhysicalMemory<'static> for PhysMap {
    fn bytes(&self, address: u64, len: usize) -> Option<&'static [u8]> {
        let end = address.checked_add(len as u64).filter(|&end| end <= self.end)?;
        // Some firmware keeps tables in memory that its own memory map reports as reserved, which the physical map does
        // not contain. Such a page is not cached, because device registers may lie beside a table (invariant:
        // CACHED-MEMORY).
        for page in (address & !(PAGE_SIZE - 1)..end).step_by(PAGE_SIZE as usize) {
            // SAFETY: the frame is mapped at its own address in the physical map and only read, and no program exists
            // yet (contract of `Tables::find`, invariant: KERNEL-HALF-FIXED).
            let mapped = unsafe { paging::map_kernel_page(PHYSMAP_BASE + page, page, paging::DEVICE) };
            if mapped == Err(MapError::OutOfMemory) {
                return None;
            }
        }
        // SAFETY: the range has been mapped above and is never unmapped, and nothing writes to it.
        Some(unsafe { slice::from_raw_parts(phys_to_virt(address), len) })
    }
}

/// The power-management timer: a counter at 3.579545 MHz (ACPI 6.5, 4.8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    /// The counter's I/O port.
    pub port: u16,
}

/// The firmware's tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables(acpi_tables::Tables<'static, PhysMap>);

impl Tables {
    /// Finds and checks the root table.
    ///
    /// # Errors
    /// [`FirmwareError`].
    ///
    /// # Safety
    /// `rsdp` is 0 or the physical address of the RSDP, as reported by the loader. Called on the BSP, and neither this
    /// function nor the result is used after the first program exists.
    pub unsafe fn find(rsdp: u64) -> Result<Tables, FirmwareError> {
        Ok(Tables(acpi_tables::Tables::find(PhysMap::new(), rsdp)?))
    }

    /// Returns the root table.
    pub(in crate::arch) fn root(&self) -> Table<'static> {
        self.0.root
    }

    /// Finds and checks a table.
    ///
    /// # Errors
    /// [`FirmwareError::Table`].
    pub(in crate::arch) fn table(&self, name: Name) -> Result<Table<'static>, FirmwareError> {
        Ok(self.0.table(name)?)
    }

    /// Finds the MADT and checks its entries.
    ///
    /// # Errors
    /// [`FirmwareError`].
    pub fn madt(&self) -> Result<topology::Madt<'static>, FirmwareError> {
        topology::Madt::parse(self.table(Name::MADT)?.bytes).map_err(FirmwareError::Madt)
    }

    /// Finds the FADT. A table that is shorter than the crate's type is extended with zeros, which mean that a field is
    /// absent.
    fn fadt(&self) -> Result<Fadt, FirmwareError> {
        let table = self.table(Name::FADT)?.bytes;
        let mut padded = [0; size_of::<Fadt>()];
        let len = table.len().min(padded.len());
        padded[..len].copy_from_slice(&table[..len]);
        // SAFETY: the type is packed and consists of integers, so any bytes are valid.
        Ok(unsafe { ptr::read_unaligned(padded.as_ptr().cast()) })
    }

    /// Returns the serial console that the tables describe; `None` if they describe none.
    #[must_use]
    pub fn serial_console(&self) -> Option<SerialConsole> {
        self.table(Name::SPCR).ok().map(|table| SerialConsole::parse(table.bytes))
    }

    /// Returns the registers that the tables name for resetting the machine and powering it off. Registers in tables
    /// that cannot be read are left out.
    #[must_use]
    pub fn power(&self) -> Power {
        let Ok(fadt) = self.fadt() else { return Power::default() };
        let controls = [fadt.pm1a_control_block().ok(), fadt.pm1b_control_block().ok().flatten()];
        let ports = controls.map(|control| control.and_then(port));
        let mut power = Power::default();
        let dsdt = fadt.dsdt_address().ok().and_then(|at| self.0.table_at(Name::DSDT, at as u64).ok());
        if let Some(types) = dsdt.and_then(|table| soft_off_types(&table.bytes[HEADER_LEN..])) {
            for ((off, port), sleep_type) in power.off.iter_mut().zip(ports).zip(types) {
                *off = port.map(|port| SleepControl { port, sleep_type });
            }
        }
        let flags = fadt.flags;
        if flags.supports_system_reset_via_fadt() {
            let port = fadt.reset_register().ok().and_then(port);
            power.reset = port.map(|port| ResetRegister { port, value: fadt.reset_value });
        }
        power
    }

    /// Returns the HPET, or `None` if there is no valid table that reports one.
    #[must_use]
    pub fn hpet(&self) -> Option<Hpet> {
        Hpet::parse(self.table(Name::HPET).ok()?.bytes)
    }

    /// Returns the power-management timer, or `None` if the FADT is not valid or reports no such timer at an I/O port.
    #[must_use]
    pub fn pm_timer(&self) -> Option<PmTimer> {
        let block = self.fadt().ok()?.pm_timer_block().ok()??;
        port(block).map(|port| PmTimer { port })
    }
}

/// Returns the I/O port of a register, or `None` if the register is elsewhere.
fn port(register: GenericAddress) -> Option<u16> {
    let port = u16::try_from(register.address).ok()?;
    (register.address_space == AddressSpace::SystemIo && port != 0).then_some(port)
}
