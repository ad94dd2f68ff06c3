//! The runtime services of UEFI firmware, which reset the machine and power it off.
//!
//! The kernel does not call `SetVirtualAddressMap`, so the services run at their physical addresses. They are mapped there
//! in page tables of their own, whose upper half is the kernel's. These tables are loaded only for a call, after the
//! verdict, by the one CPU that is still running.

use core::mem::offset_of;
use core::{fmt, ptr};

use spin::Once;
use uefi_raw::Status;
use uefi_raw::table::runtime::{ResetType, RuntimeServices as ServiceTable};
use uefi_raw::table::system::SystemTable;
use x86_64::PhysAddr;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::{Mapper, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB};

use crate::arch::boot::{BootInfo, RuntimeKind, RuntimeRegion};
use crate::arch::cpu::fpu;
use crate::arch::devices::finish::{self, Reset};
use crate::arch::memory::paging::{self, DEVICE, KERNEL_DATA, MapError};
use crate::arch::memory::physmem::{self, TableFrames};
use crate::frames::{self, Region};
use crate::physmap::phys_to_virt;

/// The end of the memory that may belong to the services: the lower half of the address space.
const LOWER_HALF_END: u64 = 1 << 47;
/// The highest total size of the services' memory, in bytes. Firmware has about 10 MiB, and page tables for more would
/// take memory that the programs need.
const MEMORY_MAX: u64 = 1 << 30;
/// The signature of the table of the runtime services (UEFI 2.10, 4.5.1).
const SERVICES_SIGNATURE: u64 = u64::from_le_bytes(*b"RUNTSERV");

/// `ResetSystem` (UEFI 2.10, 8.5.1). Unlike the crate's type, this type allows a return, because faulty firmware may
/// return.
type ResetSystem = unsafe extern "efiapi" fn(ResetType, Status, usize, *const u8);

/// The reason why the runtime services cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeError {
    /// Their memory cannot be mapped.
    Map(MapError),
    /// A range of their memory is not page-aligned, or does not consist of addresses at which they can run.
    Range(Region),
    /// Their memory is larger than [`MEMORY_MAX`]: this many bytes.
    Size(u64),
    /// This table or function does not lie in their memory.
    Outside(&'static str, u64),
    /// This table has another signature.
    Signature(&'static str, u64),
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the firmware's runtime services are not used: ")?;
        match self {
            RuntimeError::Map(error) => error.fmt(f),
            RuntimeError::Range(Region { start, len }) => {
                write!(f, "they claim {len:#x} bytes at {start:#x}, which are not whole pages of memory")
            }
            RuntimeError::Size(len) => {
                write!(f, "they claim {len:#x} bytes of memory, more than {MEMORY_MAX:#x}")
            }
            RuntimeError::Outside(what, address) => {
                write!(f, "{what} at {address:#x} does not lie in their memory")
            }
            RuntimeError::Signature(what, address) => {
                write!(f, "{what} at {address:#x} has the wrong signature")
            }
        }
    }
}

impl core::error::Error for RuntimeError {}

impl From<MapError> for RuntimeError {
    fn from(error: MapError) -> RuntimeError {
        RuntimeError::Map(error)
    }
}

/// The runtime services, mapped for a call.
#[derive(Clone, Copy, Debug)]
struct RuntimeServices {
    pml4: PhysFrame,
    reset_system: u64,
}

/// The services, after [`prepare`].
static SERVICES: Once<RuntimeServices> = Once::new();

/// Maps the services, and checks the tables that lead to `ResetSystem`. After that, the end of the run calls
/// `ResetSystem`. Does nothing if the machine was not started by UEFI firmware, or if not all memory of the services is
/// known.
///
/// # Errors
/// [`RuntimeError`].
///
/// # Safety
/// Called on the BSP, with interrupts off, after the kernel's half is complete (invariant: KERNEL-HALF-FIXED).
pub unsafe fn prepare(info: &BootInfo) -> Result<(), RuntimeError> {
    if info.system_table == 0 {
        return Ok(());
    }
    // SAFETY: guaranteed by the caller.
    let pml4 = unsafe { map(info) }?;
    // SAFETY: both PML4s have the same upper half, which maps everything that ring 0 uses.
    unsafe { Cr3::write(pml4, Cr3Flags::empty()) };
    let found = find_reset_system(info);
    paging::load_kernel_tables();
    let services = RuntimeServices { pml4, reset_system: found? };
    SERVICES.call_once(|| services);
    finish::set_firmware_reset(reset);
    Ok(())
}

/// Calls `ResetSystem`.
///
/// # Safety
/// See [`FirmwareReset`](finish::FirmwareReset).
unsafe fn reset(what: Reset) {
    let Some(services) = SERVICES.get() else { return };
    let kind = match what {
        Reset::Reboot => ResetType::COLD,
        Reset::PowerOff => ResetType::SHUTDOWN,
    };
    // The FPU's control words still hold the last program's values. The firmware's calling convention requires the
    // values that `reset` loads (UEFI 2.10, 2.3.4.2).
    // SAFETY: `control::init` has set the control bits, and the last program has ended.
    unsafe { fpu::reset() };
    // SAFETY: the tables have the kernel's upper half, so this stack and this code stay mapped. The address is that of
    // the function, in memory that is mapped executable. The stack is 16-byte aligned by the calling convention, and
    // has the 4 KiB that the services need (UEFI 2.10, 2.3.4): the run has ended near the stack's start.
    unsafe {
        Cr3::write(services.pml4, Cr3Flags::empty());
        let function = core::mem::transmute::<usize, ResetSystem>(services.reset_system as usize);
        function(kind, Status::SUCCESS, 0, ptr::null());
    }
    paging::load_kernel_tables();
}

/// Checks the memory of the services, and returns its pages with their uses. `end` is one past the highest physical
/// address.
///
/// # Errors
/// [`RuntimeError::Range`], [`RuntimeError::Size`].
fn pages(
    regions: &[RuntimeRegion],
    end: u64,
) -> Result<impl Iterator<Item = (u64, RuntimeKind)>, RuntimeError> {
    let limit = end.min(LOWER_HALF_END);
    let mut total: u64 = 0;
    for RuntimeRegion { range: range @ Region { start, len }, .. } in regions {
        let end = start.checked_add(*len).filter(|&end| end <= limit && (start | end).is_multiple_of(4096));
        end.ok_or(RuntimeError::Range(*range))?;
        total = total.saturating_add(*len);
    }
    if total > MEMORY_MAX {
        return Err(RuntimeError::Size(total));
    }
    let of = |region: &RuntimeRegion| {
        let (Region { start, len }, kind) = (region.range, region.kind);
        (start..start + len).step_by(4096).map(move |page| (page, kind))
    };
    Ok(regions.iter().flat_map(of))
}

/// Builds the page tables: the kernel's upper half, and the memory of the services at its physical addresses.
///
/// # Safety
/// As for [`prepare`].
unsafe fn map(info: &BootInfo) -> Result<PhysFrame, RuntimeError> {
    let pages = pages(info.runtime_regions(), physmem::address_end())?;
    let frame = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?;
    let pml4 = PhysFrame::containing_address(PhysAddr::new(frame.start()));
    // SAFETY: nothing else refers to the new table (invariant: OWN-FRAMES). The kernel's PML4 is only read, and its
    // upper half no longer changes (guaranteed by the caller).
    unsafe {
        let table = |pml4: PhysFrame| phys_to_virt(pml4.start_address().as_u64()).cast::<PageTable>();
        let (new, kernel) = (&mut *table(pml4), &*table(paging::kernel_pml4()));
        (256..512).for_each(|index| new[index] = kernel[index].clone());
    }
    // SAFETY: the frame holds a PML4, which no CPU uses yet.
    let mut tables = unsafe { paging::mapper(pml4) };
    for (page, kind) in pages {
        let flags = match kind {
            // The images' data may lie between their code, so these pages are both writable and executable, as they are
            // while the firmware itself runs. No other page tables contain them.
            RuntimeKind::Code => PageTableFlags::PRESENT | PageTableFlags::WRITABLE,
            RuntimeKind::Data => KERNEL_DATA,
            RuntimeKind::Device => DEVICE,
        };
        let frame = PhysFrame::<Size4KiB>::containing_address(PhysAddr::new(page));
        let page = Page::containing_address(VirtAddr::new(page));
        // SAFETY: the page lies in the lower half, which contains no kernel object.
        unsafe { tables.map_to(page, frame, flags, &mut TableFrames::default()) }
            .map_err(MapError::from)?
            .ignore();
    }
    Ok(pml4)
}

/// Returns the address of `ResetSystem`. Called while the services are mapped.
fn find_reset_system(info: &BootInfo) -> Result<u64, RuntimeError> {
    let services = pointer_in(
        info,
        ("the system table", SystemTable::SIGNATURE),
        info.system_table,
        (size_of::<SystemTable>(), offset_of!(SystemTable, runtime_services)),
    )?;
    let function = pointer_in(
        info,
        ("the table of runtime services", SERVICES_SIGNATURE),
        services,
        (size_of::<ServiceTable>(), offset_of!(ServiceTable, reset_system)),
    )?;
    let code = info.runtime_regions().iter().filter(|region| region.kind == RuntimeKind::Code);
    if !frames::covers(code.map(|region| region.range), function..function.saturating_add(1)) {
        return Err(RuntimeError::Outside("ResetSystem", function));
    }
    Ok(function)
}

/// Checks a table of this name, signature and size, and returns the pointer at an offset in it.
fn pointer_in(
    info: &BootInfo,
    (name, signature): (&'static str, u64),
    address: u64,
    (size, offset): (usize, usize),
) -> Result<u64, RuntimeError> {
    let memory = info.runtime_regions().iter().filter(|region| region.kind != RuntimeKind::Device);
    let range = address..address.saturating_add(size as u64);
    if !frames::covers(memory.map(|region| region.range), range) {
        return Err(RuntimeError::Outside(name, address));
    }
    let table = ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: the table lies in memory of the services, which is mapped at its physical address while this function
    // runs.
    let (found, pointer) =
        unsafe { (table.cast::<u64>().read_unaligned(), table.add(offset).cast::<u64>().read_unaligned()) };
    if found == signature { Ok(pointer) } else { Err(RuntimeError::Signature(name, address)) }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const END: u64 = 1 << 40;
    const GIB: u64 = 1 << 30;

    fn region(start: u64, len: u64) -> RuntimeRegion {
        RuntimeRegion { range: Region { start, len }, kind: RuntimeKind::Data }
    }

    fn check(regions: &[RuntimeRegion]) -> Result<usize, RuntimeError> {
        pages(regions, END).map(Iterator::count)
    }

    #[test]
    fn each_page_has_the_use_of_its_range() {
        let code = RuntimeRegion { kind: RuntimeKind::Code, ..region(0x1000, 0x2000) };
        let pages: Vec<_> = pages(&[code, region(0x8000, 0x1000)], END).expect("valid").collect();
        let (code, data) = (RuntimeKind::Code, RuntimeKind::Data);
        assert_eq!(pages, [(0x1000, code), (0x2000, code), (0x8000, data)]);
    }

    #[test]
    fn ranges_that_are_not_whole_pages_of_memory_are_refused() {
        for (start, len) in
            [(0x1001, 0x1000), (0x1000, 0x1001), (END - 0x1000, 0x2000), (u64::MAX - 0xfff, 0x2000)]
        {
            let bad = region(start, len);
            assert_eq!(check(&[region(0, 0x1000), bad]), Err(RuntimeError::Range(bad.range)), "{start:#x}");
        }
        let above = region(LOWER_HALF_END, 0x1000);
        assert_eq!(pages(&[above], 1 << 52).map(drop), Err(RuntimeError::Range(above.range)));
        assert_eq!(check(&[region(END - 0x1000, 0x1000)]), Ok(1));
    }

    #[test]
    fn more_memory_than_the_limit_is_refused() {
        assert_eq!(check(&[region(0, GIB / 2), region(GIB, GIB / 2)]), Ok((GIB / 4096) as usize));
        let refused = check(&[region(0, GIB / 2), region(GIB, GIB / 2), region(0, 0x1000)]);
        assert_eq!(refused, Err(RuntimeError::Size(GIB + 0x1000)));
        // The sum does not fit in 64 bits.
        let all = std::vec![region(0, LOWER_HALF_END); 1 << 17];
        assert_eq!(pages(&all, 1 << 52).map(drop), Err(RuntimeError::Size(u64::MAX)));
    }
}
