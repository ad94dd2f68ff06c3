//! Installs the trampoline: its page, the bring-up page tables, and the report of missing features.

use ap_trampoline::{ApSlot, Parameters, Report, Row, SipiVector, StopAt};
use spin::Once;
use x86_64::structures::paging::{Mapper, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB};
use x86_64::{PhysAddr, VirtAddr};

use super::error::SmpError;
use crate::arch::cpu::control::{BOOT_CR0, BOOT_CR4, BOOT_EFER};
use crate::arch::memory::paging::{self, MapError};
use crate::arch::memory::physmem::{self, TableFrames};
use crate::features::FeatureSet;
use crate::layout;
use crate::physmap::phys_to_virt;

/// The report in which APs record the stages that they reach and the features that they lack, and its
/// physical address. Published before the first SIPI.
static REPORT: Once<(u32, &'static Report)> = Once::new();

const PAGE: u64 = 4096;

/// Returns the row of the CPU with this APIC id in the report, once the report exists.
pub(super) fn row(apic_id: u32) -> Option<&'static Row> {
    REPORT.get().map(|(_, report)| report.row(apic_id))
}

/// Copies the trampoline to a free page below 1 MiB, and maps that page at its physical address, readable and
/// executable, in a separate PML4 that shares the kernel's half. The page and the PML4 are never freed, because a late
/// CPU may use them at any time. No program's page tables contain this mapping. `entry` is the address of the APs' entry
/// point; `x2apic` is the mode of the BSP's APIC. `stop` is a place at which each CPU that runs this copy halts. Publishes
/// [`REPORT`], which all copies share.
pub(super) fn install(
    slots: &[ApSlot],
    entry: u64,
    x2apic: bool,
    stop: Option<StopAt>,
) -> Result<SipiVector, SmpError> {
    let page = physmem::alloc_in(PAGE..0xa_0000).ok_or(SmpError::NoLowPage)?.start();
    // The trampoline loads CR3 before it enters long mode, so the PML4 must lie below 4 GiB.
    let pml4 = physmem::alloc_in(0x10_0000..1 << 32).ok_or(MapError::OutOfMemory)?.start();
    // SAFETY: the frame has just been allocated, so nothing else uses it (invariant: OWN-FRAMES). The kernel's PML4 is
    // only read.
    unsafe {
        let new = phys_to_virt(pml4).cast::<PageTable>();
        new.write(PageTable::new());
        let kernel = &*phys_to_virt(paging::kernel_pml4().start_address().as_u64()).cast::<PageTable>();
        for index in 256..512 {
            (&mut *new)[index] = kernel[index].clone();
        }
    }
    // SAFETY: no CPU has loaded these tables yet. The new mapping is not writable; the page is written through the
    // physical map alone (invariant: W^X).
    unsafe {
        let mut tables = paging::mapper(PhysFrame::containing_address(PhysAddr::new(pml4)));
        let frame = PhysFrame::<Size4KiB>::containing_address(PhysAddr::new(page));
        let virt = Page::containing_address(VirtAddr::new(page));
        tables
            .map_to(virt, frame, PageTableFlags::PRESENT, &mut TableFrames::default())
            .map_err(MapError::from)?
            .ignore();
    }
    let report = match REPORT.get() {
        Some((address, _)) => *address,
        None => allocate_report()?,
    };
    let parameters = Parameters {
        page: page as u32,
        cr3: pml4 as u32,
        cr0: BOOT_CR0.bits() as u32,
        efer: BOOT_EFER.bits() as u32,
        cr4: BOOT_CR4.bits() as u32,
        slots: slots.as_ptr() as u64,
        slot_count: slots.len() as u32,
        entry,
        x2apic,
        apic_registers: layout::APIC_REGISTERS,
        basic_features: FeatureSet::REQUIRED.basic,
        extended_features: FeatureSet::REQUIRED.extended,
        report,
    };
    // SAFETY: the frame was allocated above and has no other user (invariant: OWN-FRAMES), and no CPU executes it yet.
    let bytes = unsafe { &mut *phys_to_virt(page).cast::<[u8; PAGE as usize]>() };
    let vector = ap_trampoline::install(bytes, &parameters).map_err(SmpError::Install)?;
    if let Some(stop) = stop {
        ap_trampoline::stop_at(bytes, stop);
    }
    // From here on the page is not writable at any address (invariant: W^X).
    paging::protect_physmap_page(page);
    paging::audit(PhysFrame::containing_address(PhysAddr::new(pml4))).check().map_err(SmpError::Audit)?;
    Ok(vector)
}

/// Allocates and publishes the report. Returns its physical address.
fn allocate_report() -> Result<u32, SmpError> {
    // The CPUs write the report before they enable paging, so its address must fit in 32 bits.
    let address = physmem::alloc_in(0x10_0000..1 << 32).ok_or(MapError::OutOfMemory)?.start();
    // SAFETY: the frame has just been allocated, so nothing else uses it (invariant: OWN-FRAMES), and it is never
    // freed. A zeroed report is valid. Other CPUs write only its atomics.
    REPORT.call_once(|| unsafe {
        phys_to_virt(address).write_bytes(0, PAGE as usize);
        (address as u32, &*phys_to_virt(address).cast::<Report>())
    });
    Ok(address as u32)
}
