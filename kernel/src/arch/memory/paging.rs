//! The kernel's page tables: the physical map, the image with its rights, the per-CPU areas, and the walk that
//! proves W^X.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::{MapToError, MapperAllSizes};
use x86_64::structures::paging::{
    Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::boot::BootInfo;
use crate::arch::boot::image;
use crate::arch::memory::physmem::{self, TableFrames};
use crate::layout::{KERNEL_BASE, PHYSMAP_BASE, PHYSMAP_SIZE};
use crate::physmap::phys_to_virt;

/// Readable and writable data of the kernel's.
pub const KERNEL_DATA: PageTableFlags =
    PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE).union(PageTableFlags::NO_EXECUTE);
/// Registers of a device: not cached (SDM 3A, 12.5.2, PCD and PWT).
pub const DEVICE: PageTableFlags =
    KERNEL_DATA.union(PageTableFlags::NO_CACHE).union(PageTableFlags::WRITE_THROUGH);

/// The kernel's PML4, once it exists. Programs' PML4s share its upper half.
static KERNEL_PML4: AtomicU64 = AtomicU64::new(0);
/// Held while the kernel's half of the tables changes.
static KERNEL_TABLES: Mutex<()> = Mutex::new(());

/// A mapping that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No frame is left for a page or a page table.
    OutOfMemory,
    /// Something is mapped there already.
    Occupied,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MapError::OutOfMemory => "out of physical memory",
            MapError::Occupied => "the page is mapped already",
        })
    }
}

impl core::error::Error for MapError {}

impl<S: PageSize> From<MapToError<S>> for MapError {
    fn from(error: MapToError<S>) -> MapError {
        match error {
            MapToError::FrameAllocationFailed => MapError::OutOfMemory,
            MapToError::ParentEntryHugePage | MapToError::PageAlreadyMapped(_) => MapError::Occupied,
        }
    }
}

/// The kernel's PML4.
#[must_use]
pub fn kernel_pml4() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(KERNEL_PML4.load(Ordering::Relaxed)))
}

/// Loads the kernel's own tables: no program is mapped.
pub fn load_kernel_tables() {
    // SAFETY: these tables map everything that ring 0 uses, at the addresses at which it is in use.
    unsafe { Cr3::write(kernel_pml4(), Cr3Flags::empty()) };
}

/// The tables below a PML4, for changing.
///
/// # Safety
/// The frame holds a PML4, and nobody else changes its tables while the result lives.
pub(in crate::arch) unsafe fn mapper(pml4: PhysFrame) -> OffsetPageTable<'static> {
    let table = phys_to_virt(pml4.start_address().as_u64()).cast::<PageTable>();
    // SAFETY: the caller vouches for the frame and for being alone; the physical map has all tables.
    unsafe { OffsetPageTable::new(&mut *table, VirtAddr::new(PHYSMAP_BASE)) }
}

/// Builds the kernel's tables and switches to them: the low half is empty from here on.
///
/// # Errors
/// [`MapError`], with the boot tables still in force.
///
/// # Safety
/// Once, on the BSP, with the boot tables on.
pub unsafe fn init(info: &BootInfo) -> Result<(), MapError> {
    let pml4 = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?.start();
    // SAFETY: a zeroed frame is an empty PML4, and it is ours.
    let mut tables = unsafe { mapper(PhysFrame::containing_address(PhysAddr::new(pml4))) };
    map_image(&mut tables)?;
    map_physical_memory(&mut tables, info)?;
    KERNEL_PML4.store(pml4, Ordering::Relaxed);
    load_kernel_tables();
    Ok(())
}

/// Each section with its rights, in 4 KiB pages; the guard below the boot stack is left out.
fn map_image(tables: &mut OffsetPageTable<'_>) -> Result<(), MapError> {
    for section in image::sections() {
        for address in section.range.step_by(4096).filter(|&address| address != image::boot_stack_guard()) {
            map_page::<Size4KiB>(tables, address, address - KERNEL_BASE, section.flags)?;
        }
    }
    Ok(())
}

/// All memory that the map names, writable and never executable. The frames of the kernel's text and read-only
/// data are not writable through this map either.
fn map_physical_memory(tables: &mut OffsetPageTable<'_>, info: &BootInfo) -> Result<(), MapError> {
    let kernel = image::physical();
    for region in info.regions() {
        let start = region.range.start & !(Size2MiB::SIZE - 1);
        let end = region.range.start.saturating_add(region.range.len).min(PHYSMAP_SIZE);
        for large in (start..end).step_by(Size2MiB::SIZE as usize) {
            // The first two MiB as well: the trampoline's page is in there.
            let mapped = if large == 0 || large < kernel.end && kernel.start < large + Size2MiB::SIZE {
                (large..large + Size2MiB::SIZE).step_by(4096).try_for_each(|phys| {
                    map_page::<Size4KiB>(tables, PHYSMAP_BASE + phys, phys, alias_flags(phys))
                })
            } else {
                map_page::<Size2MiB>(tables, PHYSMAP_BASE + large, large, KERNEL_DATA)
            };
            match mapped {
                // Regions smaller than a large page share one.
                Ok(()) | Err(MapError::Occupied) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The rights of a frame in the physical map, if it belongs to the image.
fn alias_flags(phys: u64) -> PageTableFlags {
    let is_here = |section: &image::Section| section.range.contains(&(phys + KERNEL_BASE));
    let section = image::sections().into_iter().find(is_here);
    section.map_or(KERNEL_DATA, |section| section.flags | PageTableFlags::NO_EXECUTE)
}

fn map_page<S>(
    tables: &mut OffsetPageTable<'_>,
    virt: u64,
    phys: u64,
    flags: PageTableFlags,
) -> Result<(), MapError>
where
    S: PageSize + core::fmt::Debug,
    for<'a> OffsetPageTable<'a>: Mapper<S> + MapperAllSizes,
{
    let page = Page::<S>::containing_address(VirtAddr::new(virt));
    let frame = PhysFrame::<S>::containing_address(PhysAddr::new(phys));
    // SAFETY: the callers map the kernel's own image and areas, and physical memory at the place that is kept
    // for it; no Rust object changes its address or loses its rights by that.
    let flush = unsafe { tables.map_to(page, frame, flags, &mut TableFrames::default()) }?;
    // The page was not present before, and TLBs do not remember that (SDM 3A, 4.10.2.3).
    flush.ignore();
    Ok(())
}

/// Maps one page into the kernel's half, for all CPUs and all programs.
///
/// # Errors
/// [`MapError`].
///
/// # Safety
/// The frame is the caller's, or a device's registers with [`DEVICE`]. Before the first program's address space
/// exists, or in a region whose PML4 entry existed by then: programs copy those entries.
pub unsafe fn map_kernel_page(virt: u64, phys: u64, flags: PageTableFlags) -> Result<(), MapError> {
    let _guard = KERNEL_TABLES.lock();
    // SAFETY: the lock keeps every other change of the kernel's half away.
    let mut tables = unsafe { mapper(kernel_pml4()) };
    map_page::<Size4KiB>(&mut tables, virt, phys, flags)
}

/// What a walk over all mappings found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Mapped pages, large ones counted once.
    pub pages: u64,
    /// Pages that are both writable and executable. Must be 0.
    pub writable_and_executable: u64,
    /// Pages of the upper half that ring 3 could reach. Must be 0.
    pub user_in_kernel_half: u64,
}

impl Audit {
    /// Passes if nothing was found that must not be.
    ///
    /// # Errors
    /// Itself.
    pub fn check(self) -> Result<Audit, Audit> {
        if self.writable_and_executable == 0 && self.user_in_kernel_half == 0 { Ok(self) } else { Err(self) }
    }
}

/// Walks all mappings below a PML4 that is in force or will be.
#[must_use]
pub fn audit(pml4: PhysFrame) -> Audit {
    let mut audit = Audit::default();
    walk(pml4, 4, 0, 0..512, ALL_RIGHTS, &mut audit);
    audit
}

/// Walks the mappings of ring 3's half alone, for a program that is about to start.
#[must_use]
pub fn audit_user_half(pml4: PhysFrame) -> Audit {
    let mut audit = Audit::default();
    walk(pml4, 4, 0, 0..256, ALL_RIGHTS, &mut audit);
    audit
}

/// What a walk starts with: each level can only take away.
const ALL_RIGHTS: PageTableFlags = PageTableFlags::WRITABLE.union(PageTableFlags::USER_ACCESSIBLE);

/// Takes the right to write a page below 2 MiB through the physical map, where it is mapped with 4 KiB. Before other
/// CPUs run: only this one's TLB is told.
pub fn protect_physmap_page(phys: u64) {
    let _guard = KERNEL_TABLES.lock();
    let page = Page::<Size4KiB>::containing_address(VirtAddr::new(PHYSMAP_BASE + phys));
    // SAFETY: the lock keeps every other change of the kernel's half away; nobody writes this page any more.
    let updated =
        unsafe { mapper(kernel_pml4()).update_flags(page, KERNEL_DATA & !PageTableFlags::WRITABLE) };
    updated.expect("the physical map has memory below 2 MiB in small pages").flush();
}

/// Looks at a table's entries in `range`. `rights` are the levels' rights so far: a page is writable or ring 3's only
/// if all levels say so, and not executable if one level says so (SDM 3A, 4.6.1).
fn walk(
    table: PhysFrame,
    level: u32,
    base: u64,
    range: Range<usize>,
    rights: PageTableFlags,
    audit: &mut Audit,
) {
    // SAFETY: the physical map has all tables; nothing is changed, and a table that another CPU changes at the
    // same time is only ever extended.
    let entries = unsafe { &*phys_to_virt(table.start_address().as_u64()).cast::<PageTable>() };
    for (index, entry) in range.map(|index| (index, &entries[index])).filter(|(_, entry)| !entry.is_unused())
    {
        let flags = entry.flags();
        let rights = (rights & flags & ALL_RIGHTS) | ((rights | flags) & PageTableFlags::NO_EXECUTE);
        let address = base | (index as u64) << (12 + 9 * (level - 1));
        if level > 1 && !flags.contains(PageTableFlags::HUGE_PAGE) {
            walk(PhysFrame::containing_address(entry.addr()), level - 1, address, 0..512, rights, audit);
            continue;
        }
        audit.pages += 1;
        if rights & (PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE) == PageTableFlags::WRITABLE {
            audit.writable_and_executable += 1;
        }
        if address >> 47 != 0 && rights.contains(PageTableFlags::USER_ACCESSIBLE) {
            audit.user_in_kernel_half += 1;
        }
    }
}
