//! The parameters for the start of the application processors, and their checks.

use core::fmt;

use crate::ApSlot;

/// Control register bits that matter to the trampoline (Intel SDM vol. 3A, 2.5 and 2.2.1).
mod bits {
    /// Protection. Also set on its own, before all the others.
    pub(crate) const CR0_PE: u32 = 1 << 0;
    /// Ring 0 respects read-only pages: the trampoline's page is one.
    pub(super) const CR0_WP: u32 = 1 << 16;
    /// Not write-through: invalid without `CR0_CD`.
    pub(super) const CR0_NW: u32 = 1 << 29;
    /// Cache disable: INIT sets it, and an AP that keeps it is slow without any other sign.
    pub(super) const CR0_CD: u32 = 1 << 30;
    pub(super) const CR0_PG: u32 = 1 << 31;

    pub(super) const CR4_PAE: u32 = 1 << 5;
    /// Five-level tables. The bring-up tables have four.
    pub(super) const CR4_LA57: u32 = 1 << 12;
    /// Faults when set outside long mode.
    pub(super) const CR4_PCIDE: u32 = 1 << 17;
    /// Faults when set before CR0.WP.
    pub(super) const CR4_CET: u32 = 1 << 23;

    pub(super) const EFER_LME: u32 = 1 << 8;
    /// Set by the CPU when paging goes on; never written.
    pub(super) const EFER_LMA: u32 = 1 << 10;
}
pub(crate) use bits::CR0_PE;
use bits::*;

/// Everything that [`install`](crate::install) writes into the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Physical address of the trampoline's page: below 1 MiB, a multiple of 4 KiB. The bring-up page
    /// table maps it at this same address, readable and executable, not writable.
    pub page: u32,
    /// Physical address of the bring-up PML4, which also has the kernel's half.
    pub cr3: u32,
    /// CR0 from long mode on: at least PE, PG and WP; CD and NW clear.
    pub cr0: u32,
    /// The low half of EFER before paging goes on: at least LME; LMA clear. NXE if CPUID has it.
    pub efer: u32,
    /// CR4 before paging goes on: at least PAE; LA57, PCIDE and CET clear. The kernel's entry sets the rest.
    pub cr4: u32,
    /// Address of the first [`ApSlot`], in the kernel's half.
    pub slots: u64,
    /// Number of slots that follow each other there.
    pub slot_count: u32,
    /// Address of the kernel's entry, `extern "sysv64" fn(argument: u64) -> !`, in the kernel's half.
    pub entry: u64,
    /// The mode of the BSP's local APIC, which each AP's enters before it reads its id: x2APIC or xAPIC.
    pub x2apic: bool,
    /// Address of the page of the local APIC's registers, in the kernel's half. In x2APIC mode only a CPU
    /// that lacks this mode reads it.
    pub apic_registers: u64,
    /// The features that every CPU must have: bits of EDX of CPUID's leaf 1.
    pub basic_features: u32,
    /// The same of leaf 0x8000_0001.
    pub extended_features: u32,
    /// Physical address of a [`Report`](crate::Report) of zeros, for the CPUs that lack some of them.
    pub report: u32,
}

/// The vector of a start-up IPI that starts a CPU in the installed page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipiVector(u8);

impl SipiVector {
    /// Bits 7:0 of the interrupt command: the page's address divided by 4 KiB.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Why the trampoline was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// The page's address is not a multiple of 4 KiB.
    PageUnaligned(u32),
    /// The page is the first one, which holds the real-mode vectors, or is above 1 MiB.
    PageOutOfReach(u32),
    /// The page's SIPI vector would be one of 0xA0 to 0xBF.
    PageReserved(u32),
    /// The PML4's address is not a multiple of 4 KiB.
    Cr3Unaligned(u32),
    /// CR0 lacks PE, PG or WP, or has CD or NW.
    Cr0(u32),
    /// CR4 lacks PAE, or has LA57, PCIDE or CET.
    Cr4(u32),
    /// EFER lacks LME, or has LMA.
    Efer(u32),
    /// The slots are not aligned or not completely in the kernel's half.
    Slots(u64),
    /// The entry is not in the kernel's half.
    Entry(u64),
    /// The local APIC's registers are not 4 KiB aligned or not in the kernel's half.
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
                write!(f, "CR0 {cr0:#x} for the APs needs PE, PG and WP, and neither CD nor NW")
            }
            Self::Cr4(cr4) => {
                write!(f, "CR4 {cr4:#x} for the APs needs PAE, and none of LA57, PCIDE and CET")
            }
            Self::Efer(efer) => write!(f, "EFER {efer:#x} for the APs needs LME, and no LMA"),
            Self::Slots(slots) => {
                write!(f, "AP slots at {slots:#x} are not 64-byte aligned in the kernel's half")
            }
            Self::Entry(entry) => write!(f, "AP entry {entry:#x} is not in the kernel's half"),
            Self::ApicRegisters(address) => {
                write!(f, "the local APIC's registers at {address:#x} are not a page of the kernel's half")
            }
            Self::Report(report) => write!(f, "the AP report at {report:#x} is not a page"),
        }
    }
}

impl core::error::Error for InstallError {}

const PAGE_SIZE: u32 = 4096;
const ONE_MIB: u32 = 1 << 20;
/// Lowest address of the upper half with four-level tables.
const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

impl Parameters {
    /// Checks what can be checked without the page tables, and returns the SIPI vector of the page.
    ///
    /// It does not prove that the page is free, that the tables map it, or that slots and entry are
    /// mapped by them.
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

/// Returns the vector for a page, if a SIPI can reach it. Vectors 0xA0 to 0xBF are reserved (Intel
/// MultiProcessor Specification 1.4, appendix B.4): video memory is there.
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

/// Returns whether `value` has all bits of `required` and none of `forbidden`.
const fn has(value: u32, required: u32, forbidden: u32) -> bool {
    value & (required | forbidden) == required
}
