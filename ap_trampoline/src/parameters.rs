//! The parameters for starting the application processors, and their validation.

use core::fmt;

use crate::ApSlot;

/// The control register bits that the trampoline depends on (Intel SDM vol. 3A, 2.5 and 2.2.1).
mod bits {
    /// Protection enable. The trampoline first sets this bit alone.
    pub(crate) const CR0_PE: u32 = 1 << 0;
    /// Write protect: ring 0 cannot write to read-only pages, such as the trampoline's page.
    pub(super) const CR0_WP: u32 = 1 << 16;
    /// Not write-through. Setting it without `CR0_CD` faults.
    pub(super) const CR0_NW: u32 = 1 << 29;
    /// Cache disable. INIT sets it. If it stays set, the AP works, but slowly.
    pub(super) const CR0_CD: u32 = 1 << 30;
    pub(super) const CR0_PG: u32 = 1 << 31;

    pub(super) const CR4_PAE: u32 = 1 << 5;
    /// Five-level paging. The bring-up page tables have four levels.
    pub(super) const CR4_LA57: u32 = 1 << 12;
    /// Process-context identifiers. Setting it outside long mode faults.
    pub(super) const CR4_PCIDE: u32 = 1 << 17;
    /// Control-flow enforcement. Setting it before CR0.WP faults.
    pub(super) const CR4_CET: u32 = 1 << 23;

    pub(super) const EFER_LME: u32 = 1 << 8;
    /// Long mode active. The CPU sets it when paging is enabled; software does not write it.
    pub(super) const EFER_LMA: u32 = 1 << 10;
}
pub(crate) use bits::CR0_PE;
use bits::*;

/// The values that [`install`](crate::install) writes to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Physical address of the trampoline's page: below 1 MiB, a multiple of 4 KiB. The bring-up page tables map it at
    /// the same virtual address, readable and executable, not writable.
    pub page: u32,
    /// Physical address of the bring-up PML4, which also contains the kernel's half.
    pub cr3: u32,
    /// The value of CR0 that enables paging: at least PE, PG and WP set; CD and NW clear.
    pub cr0: u32,
    /// The low half of EFER before paging is enabled: at least LME set; LMA clear; NXE set if CPUID reports NX.
    pub efer: u32,
    /// The value of CR4 before paging is enabled: at least PAE set; LA57, PCIDE and CET clear. The kernel sets other
    /// bits later.
    pub cr4: u32,
    /// Address of the first [`ApSlot`], in the kernel's half.
    pub slots: u64,
    /// The number of slots in the array at that address.
    pub slot_count: u32,
    /// Address of the kernel entry point, `extern "sysv64" fn(argument: u64) -> !`, in the kernel's half.
    pub entry: u64,
    /// The mode of the BSP's local APIC, x2APIC or xAPIC. Each AP switches its APIC to this mode before it reads the
    /// APIC id.
    pub x2apic: bool,
    /// Address, in the kernel's half, of the page of the local APIC's registers. In x2APIC mode only a CPU that lacks
    /// this mode reads the page.
    pub apic_registers: u64,
    /// The features that every CPU must have, as bits of EDX in CPUID leaf 1.
    pub basic_features: u32,
    /// The features that every CPU must have, as bits of EDX in CPUID leaf 0x8000_0001.
    pub extended_features: u32,
    /// Physical address of a zeroed [`Report`](crate::Report), in which CPUs report features that they lack.
    pub report: u32,
}

/// The start-up IPI vector that starts a CPU in the installed page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipiVector(u8);

impl SipiVector {
    /// Returns bits 7:0 of the interrupt command: the page's address divided by 4 KiB.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// The reason why the trampoline was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// The page's address is not a multiple of 4 KiB.
    PageUnaligned(u32),
    /// The page is page 0, which holds the real-mode interrupt vectors, or is above 1 MiB.
    PageOutOfReach(u32),
    /// The page's SIPI vector would be in the reserved range 0xA0 to 0xBF.
    PageReserved(u32),
    /// The PML4's address is not a multiple of 4 KiB.
    Cr3Unaligned(u32),
    /// CR0 lacks PE, PG or WP, or has CD or NW set.
    Cr0(u32),
    /// CR4 lacks PAE, or has LA57, PCIDE or CET set.
    Cr4(u32),
    /// EFER lacks LME, or has LMA set.
    Efer(u32),
    /// The slots are misaligned or do not lie completely in the kernel's half.
    Slots(u64),
    /// The entry point is not in the kernel's half.
    Entry(u64),
    /// The page of the local APIC's registers is not 4 KiB aligned or not in the kernel's half.
    ApicRegisters(u64),
    /// The report's address is 0 or not a multiple of 4 KiB.
    Report(u32),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PageUnaligned(page) => write!(f, "AP trampoline page {page:#x} is not 4 KiB aligned"),
            Self::PageOutOfReach(page) => {
                write!(
                    f,
                    "AP trampoline page {page:#x} is not between 0x1000 and 0xff000, where a SIPI can reach it"
                )
            }
            Self::PageReserved(page) => {
                write!(
                    f,
                    "AP trampoline page {page:#x} needs a SIPI vector from the reserved range 0xa0-0xbf"
                )
            }
            Self::Cr3Unaligned(cr3) => write!(f, "bring-up PML4 {cr3:#x} is not 4 KiB aligned"),
            Self::Cr0(cr0) => {
                write!(f, "CR0 {cr0:#x} for the APs must have PE, PG and WP set, and CD and NW clear")
            }
            Self::Cr4(cr4) => {
                write!(f, "CR4 {cr4:#x} for the APs must have PAE set, and LA57, PCIDE and CET clear")
            }
            Self::Efer(efer) => write!(f, "EFER {efer:#x} for the APs must have LME set and LMA clear"),
            Self::Slots(slots) => {
                write!(f, "AP slots at {slots:#x} are not 64-byte aligned in the kernel's half")
            }
            Self::Entry(entry) => write!(f, "AP entry {entry:#x} is not in the kernel's half"),
            Self::ApicRegisters(address) => {
                write!(f, "the local APIC's registers at {address:#x} are not a page in the kernel's half")
            }
            Self::Report(report) => {
                write!(f, "the AP report at {report:#x} is not a page-aligned address above 0")
            }
        }
    }
}

impl core::error::Error for InstallError {}

const PAGE_SIZE: u32 = 4096;
const ONE_MIB: u32 = 1 << 20;
/// Lowest address of the upper half with four-level tables.
const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

impl Parameters {
    /// Checks all properties that do not depend on the page tables, and returns the SIPI vector of the page.
    ///
    /// It does not check that the page is free, or that the page tables map the page, the slots and the entry point.
    pub(crate) fn check(&self) -> Result<SipiVector, InstallError> {
        let vector = sipi_vector(self.page)?;
        if !self.cr3.is_multiple_of(PAGE_SIZE) {
            return Err(InstallError::Cr3Unaligned(self.cr3));
        }
        if !has(self.cr0, CR0_PE | CR0_PG | CR0_WP, CR0_CD | CR0_NW) {
            return Err(InstallError::Cr0(self.cr0));
        }
        if !has(self.cr4, CR4_PAE, CR4_LA57 | CR4_PCIDE | CR4_CET) {
            return Err(InstallError::Cr4(self.cr4));
        }
        if !has(self.efer, EFER_LME, EFER_LMA) {
            return Err(InstallError::Efer(self.efer));
        }
        let slots_size = u64::from(self.slot_count) * size_of::<ApSlot>() as u64;
        let slots_fit = self.slots.checked_add(slots_size).is_some();
        if self.slots < KERNEL_HALF || !self.slots.is_multiple_of(align_of::<ApSlot>() as u64) || !slots_fit {
            return Err(InstallError::Slots(self.slots));
        }
        if self.entry < KERNEL_HALF {
            return Err(InstallError::Entry(self.entry));
        }
        if self.apic_registers < KERNEL_HALF || !self.apic_registers.is_multiple_of(PAGE_SIZE.into()) {
            return Err(InstallError::ApicRegisters(self.apic_registers));
        }
        if self.report == 0 || !self.report.is_multiple_of(PAGE_SIZE) {
            return Err(InstallError::Report(self.report));
        }
        Ok(vector)
    }
}

/// Returns the vector for a page if a SIPI can reach the page. Vectors 0xA0 to 0xBF are reserved (Intel MultiProcessor
/// Specification 1.4, appendix B.4), because video memory is at these pages.
fn sipi_vector(page: u32) -> Result<SipiVector, InstallError> {
    if !page.is_multiple_of(PAGE_SIZE) {
        return Err(InstallError::PageUnaligned(page));
    }
    match page / PAGE_SIZE {
        0 => Err(InstallError::PageOutOfReach(page)),
        0xa0..=0xbf => Err(InstallError::PageReserved(page)),
        vector if page < ONE_MIB => Ok(SipiVector(vector as u8)),
        _ => Err(InstallError::PageOutOfReach(page)),
    }
}

/// Returns whether `value` has all bits of `required` set and all bits of `forbidden` clear.
const fn has(value: u32, required: u32, forbidden: u32) -> bool {
    value & (required | forbidden) == required
}
