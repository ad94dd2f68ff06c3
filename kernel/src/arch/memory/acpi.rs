//! Reads the firmware's tables with the `acpi` crate: the MADT lists the CPUs, the FADT reports the power-management
//! timer.

use core::fmt;
use core::ptr::NonNull;

use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use acpi::madt::Madt;
use acpi::{AcpiError, AcpiHandler, AcpiTables, AmlTable, PhysicalMapping};
use kernel_abi::layout::PAGE_SIZE;

use crate::arch::memory::paging::{self, MapError};
use crate::layout::{PHYSMAP_BASE, PHYSMAP_SIZE};
use crate::physmap::phys_to_virt;
use crate::power::{Power, ResetRegister, SleepControl, soft_off_types};
use crate::topology::{self, MadtError};

/// The longest accepted table, in bytes. DSDTs have a few hundred KiB, other tables far less.
const TABLE_MAX: usize = 16 << 20;

/// The reason why the firmware's tables cannot be used.
#[derive(Debug)]
pub enum FirmwareError {
    /// The loader gave no RSDP.
    NoRsdp,
    /// A table is missing, or its signature or checksum is wrong.
    Table(AcpiError),
    /// The MADT's entries cannot be walked.
    Madt(MadtError),
    /// The FADT reports no power-management timer at an I/O port. The calibration of the clock needs one.
    NoPmTimer,
}

impl fmt::Display for FirmwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FirmwareError::NoRsdp => f.write_str("the loader gave no ACPI root pointer (RSDP)"),
            FirmwareError::Table(error) => write!(f, "ACPI tables: {error:?}"),
            FirmwareError::NoPmTimer => f.write_str("the firmware names no ACPI power-management timer"),
            FirmwareError::Madt(error) => write!(f, "ACPI MADT: {error}"),
        }
    }
}

impl core::error::Error for FirmwareError {}

impl From<AcpiError> for FirmwareError {
    fn from(error: AcpiError) -> FirmwareError {
        FirmwareError::Table(error)
    }
}

/// Accesses the tables in place, through the physical map.
#[derive(Clone)]
struct PhysMap;

impl AcpiHandler for PhysMap {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let (start, end) = (address as u64, (address as u64).saturating_add(size as u64));
        assert!(
            size <= TABLE_MAX && end <= PHYSMAP_SIZE,
            "an ACPI table at {start:#x} has an implausible length of {size} bytes; the firmware's tables are invalid"
        );
        // Some firmware keeps tables in memory that its own memory map reports as reserved, which the physical map does
        // not contain.
        for page in (start & !(PAGE_SIZE - 1)..end).step_by(PAGE_SIZE as usize) {
            // SAFETY: the frame is mapped at its own address in the physical map and only read, and no program exists
            // yet (invariant: KERNEL-HALF-FIXED).
            let mapped = unsafe { paging::map_kernel_page(PHYSMAP_BASE + page, page, paging::KERNEL_DATA) };
            assert!(mapped != Err(MapError::OutOfMemory), "out of memory while mapping an ACPI table");
        }
        let pointer =
            NonNull::new(phys_to_virt(start).cast()).expect("the physical map must not be at address 0");
        // SAFETY: the region has been mapped above and is never unmapped.
        unsafe { PhysicalMapping::new(address, pointer, size, size, PhysMap) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// Returns a table's byte code.
fn byte_code(table: &AmlTable) -> &'static [u8] {
    let len = table.length as usize;
    // SAFETY: the crate has found this table and validated it. Regions are never unmapped.
    let mapped = unsafe { PhysMap.map_physical_region::<u8>(table.address, len) };
    // SAFETY: the region has been mapped with this length and is never unmapped (see `unmap_physical_region`), and
    // nothing writes to it.
    unsafe { core::slice::from_raw_parts(mapped.virtual_start().as_ptr(), len) }
}

/// The power-management timer: a counter at 3.579545 MHz (ACPI 6.5, 4.8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    /// The counter's I/O port.
    pub port: u16,
}

/// The firmware's tables.
pub struct Tables(AcpiTables<PhysMap>);

impl Tables {
    /// Finds and validates the root table.
    ///
    /// # Errors
    /// [`FirmwareError`].
    ///
    /// # Safety
    /// `rsdp` is 0 or the physical address of the RSDP, as reported by the loader. Called on the BSP, before the first
    /// program exists.
    pub unsafe fn find(rsdp: u64) -> Result<Tables, FirmwareError> {
        if rsdp == 0 {
            return Err(FirmwareError::NoRsdp);
        }
        // SAFETY: the caller guarantees that this is the RSDP's address; the crate checks its signature and checksum.
        Ok(Tables(unsafe { AcpiTables::from_rsdp(PhysMap, rsdp as usize) }?))
    }

    /// Finds the MADT and validates its entries.
    ///
    /// # Errors
    /// [`FirmwareError`].
    pub fn madt(&self) -> Result<topology::Madt<'static>, FirmwareError> {
        let madt = self.0.find_table::<Madt>()?;
        // SAFETY: the crate has mapped the table with the length given in its header. The table is never unmapped (see
        // `unmap_physical_region`), and nothing writes to it.
        let table = unsafe {
            core::slice::from_raw_parts(madt.virtual_start().as_ptr().cast::<u8>(), madt.region_length())
        };
        topology::Madt::parse(table).map_err(FirmwareError::Madt)
    }

    /// Returns what the tables say about power, as far as they can be read.
    #[must_use]
    pub fn power(&self) -> Power {
        let Ok(fadt) = self.0.find_table::<Fadt>() else { return Power::default() };
        let port = |register: GenericAddress| match u16::try_from(register.address) {
            Ok(port) if register.address_space == AddressSpace::SystemIo && port != 0 => Some(port),
            _ => None,
        };
        let controls = [fadt.pm1a_control_block().ok(), fadt.pm1b_control_block().ok().flatten()];
        let ports = controls.map(|control| control.and_then(port));
        let mut power = Power::default();
        if let Some(types) = self.0.dsdt().ok().and_then(|table| soft_off_types(byte_code(&table))) {
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

    /// Finds the power-management timer.
    ///
    /// # Errors
    /// [`FirmwareError`].
    pub fn pm_timer(&self) -> Result<PmTimer, FirmwareError> {
        let fadt = self.0.find_table::<Fadt>()?;
        let block = fadt.pm_timer_block()?.ok_or(FirmwareError::NoPmTimer)?;
        match u16::try_from(block.address) {
            Ok(port) if block.address_space == AddressSpace::SystemIo && port != 0 => Ok(PmTimer { port }),
            _ => Err(FirmwareError::NoPmTimer),
        }
    }
}
