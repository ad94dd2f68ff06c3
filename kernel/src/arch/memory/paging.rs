//! The kernel's page tables: the physical map, the kernel image with its rights, the per-CPU areas, and the page-table
//! walk that verifies the invariant W^X.

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

use crate::arch::boot::{self, BootInfo, image};
use crate::arch::memory::physmem::{self, TableFrames};
use crate::layout::{KERNEL_BASE, PHYSMAP_BASE, PHYSMAP_SIZE};
use crate::physmap::phys_to_virt;

/// Flags of kernel data: readable and writable, not executable.
pub const KERNEL_DATA: PageTableFlags =
    PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE).union(PageTableFlags::NO_EXECUTE);
/// Flags of device registers: not cached (SDM 3A, 12.5.2, PCD and PWT).
pub const DEVICE: PageTableFlags =
    KERNEL_DATA.union(PageTableFlags::NO_CACHE).union(PageTableFlags::WRITE_THROUGH);

/// Flags of the frame buffer: write-combining, which is entry 1 of the kernel's PAT (see
/// [`control`](crate::arch::cpu::control)). PWT alone selects that entry (SDM 3A, table 12-10).
pub const FRAME_BUFFER: PageTableFlags = KERNEL_DATA.union(PageTableFlags::WRITE_THROUGH);

/// The physical address of the kernel's PML4; 0 until [`init`] has built it. Every program's PML4 copies its upper
/// half.
static KERNEL_PML4: AtomicU64 = AtomicU64::new(0);
/// Held while the kernel's half of the page tables is changed.
static KERNEL_TABLES: Mutex<()> = Mutex::new(());

/// The reason why a page cannot be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No frame is left for a page or a page table.
    OutOfMemory,
    /// The page is mapped already.
    Occupied,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MapError::OutOfMemory => "out of physical memory; give the machine more",
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

/// Returns the frame of the kernel's PML4.
#[must_use]
pub fn kernel_pml4() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(KERNEL_PML4.load(Ordering::Relaxed)))
}

/// Loads CR3 with the kernel's own PML4, in which no program is mapped.
pub fn load_kernel_tables() {
    // SAFETY: these tables map everything that ring 0 uses at the same addresses as the tables loaded before.
    unsafe { Cr3::write(kernel_pml4(), Cr3Flags::empty()) };
}

/// Returns the tables below a PML4 as a mapper that can change them.
///
/// # Safety
/// The frame holds a PML4, and nothing else changes the tables below it while the mapper is in use.
pub(in crate::arch) unsafe fn mapper(pml4: PhysFrame) -> OffsetPageTable<'static> {
    let table = phys_to_virt(pml4.start_address().as_u64()).cast::<PageTable>();
    // SAFETY: the caller guarantees that the frame holds a PML4 and that nothing else changes the tables below it. The
    // physical map contains all page tables.
    unsafe { OffsetPageTable::new(&mut *table, VirtAddr::new(PHYSMAP_BASE)) }
}

/// Builds the kernel's page tables and switches to them. The lower half is empty from here on.
///
/// # Errors
/// [`MapError`]. The boot tables then stay loaded.
///
/// # Safety
/// Called once, on the BSP, with the boot tables loaded.
pub unsafe fn init(info: &BootInfo) -> Result<(), MapError> {
    let pml4 = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?.start();
    // SAFETY: a zeroed frame is an empty PML4, and nothing else refers to it (invariant: OWN-FRAMES).
    let mut tables = unsafe { mapper(PhysFrame::containing_address(PhysAddr::new(pml4))) };
    map_image(&mut tables)?;
    map_physical_memory(&mut tables, info)?;
    KERNEL_PML4.store(pml4, Ordering::Relaxed);
    load_kernel_tables();
    Ok(())
}

/// Maps each section of the image with its rights, in 4 KiB pages, except the guard page of the boot stack
/// (invariant: GUARD).
fn map_image(tables: &mut OffsetPageTable<'_>) -> Result<(), MapError> {
    for section in image::sections() {
        for address in section.range.step_by(4096).filter(|&address| address != image::boot_stack_guard()) {
            map_page::<Size4KiB>(tables, address, address - KERNEL_BASE, section.flags)?;
        }
    }
    Ok(())
}

/// Maps the regions of the memory map into the physical map, writable and not executable. The frames of the kernel's
/// text and read-only data are not writable there (invariant: W^X). No byte outside the memory map is mapped, because
/// device registers or the memory of system-management mode may lie there, which must not be cached (invariant:
/// CACHED-MEMORY).
fn map_physical_memory(tables: &mut OffsetPageTable<'_>, info: &BootInfo) -> Result<(), MapError> {
    let kernel = image::physical();
    for region in info.regions() {
        let start = region.range.start & !(Size2MiB::SIZE - 1);
        let end = region.range.start.saturating_add(region.range.len).min(PHYSMAP_SIZE);
        for large in (start..end).step_by(Size2MiB::SIZE as usize) {
            let large_end = large + Size2MiB::SIZE;
            // Use 4 KiB pages at the edges of memory, and where single pages need different rights: in the kernel
            // image, and in the first 2 MiB, which contain the trampoline's page.
            let mixed = large == 0 || large < kernel.end && kernel.start < large_end;
            if !mixed && info.covers(large..large_end) {
                map_once::<Size2MiB>(tables, large, KERNEL_DATA)?;
                continue;
            }
            for page in (large..large_end).step_by(4096).filter(|&page| info.covers(page..page + 4096)) {
                map_once::<Size4KiB>(tables, page, alias_flags(page))?;
            }
        }
    }
    Ok(())
}

/// Maps a page of the physical map, unless it is mapped already: two regions may lie in the same 2 MiB.
fn map_once<S>(tables: &mut OffsetPageTable<'_>, phys: u64, flags: PageTableFlags) -> Result<(), MapError>
where
    S: PageSize + core::fmt::Debug,
    for<'a> OffsetPageTable<'a>: Mapper<S> + MapperAllSizes,
{
    match map_page::<S>(tables, PHYSMAP_BASE + phys, phys, flags) {
        Ok(()) | Err(MapError::Occupied) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns a frame's rights in the physical map. A frame of the kernel image has the rights of its section without
/// execution; every other frame has [`KERNEL_DATA`].
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
    // SAFETY: the callers map the kernel image, the kernel's areas and the physical map, each in its own address range.
    // `map_to` never changes a page that is already mapped, so no Rust object moves or loses access rights.
    let flush = unsafe { tables.map_to(page, frame, flags, &mut TableFrames::default()) }?;
    // The page was not present before, and TLBs do not cache non-present entries (SDM 3A, 4.10.2.3), so no flush is
    // needed.
    flush.ignore();
    Ok(())
}

/// Maps one page into the kernel's half, for all CPUs and all programs.
///
/// # Errors
/// [`MapError`].
///
/// # Safety
/// The frame belongs to the caller, or holds a device's registers and `flags` is [`DEVICE`], or belongs to the frame
/// buffer and `flags` is [`FRAME_BUFFER`]. No program's address space exists yet, or the PML4 entry for `virt` existed
/// before the first one (invariant: KERNEL-HALF-FIXED).
pub unsafe fn map_kernel_page(virt: u64, phys: u64, flags: PageTableFlags) -> Result<(), MapError> {
    let _guard = KERNEL_TABLES.lock();
    // SAFETY: the frame is the kernel's PML4, and the lock excludes other changes of the kernel's half.
    let mut tables = unsafe { mapper(kernel_pml4()) };
    map_page::<Size4KiB>(&mut tables, virt, phys, flags)
}

/// The result of a page-table walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The number of mapped pages. A large page counts as one.
    pub pages: u64,
    /// The number of pages that are both writable and executable. Must be 0.
    pub writable_and_executable: u64,
    /// The number of pages in the upper half that ring 3 may access. Must be 0.
    pub user_in_kernel_half: u64,
    /// The number of pages that are mapped write-back, although not all of their bytes are in the memory map. Must be 0.
    pub cached_outside_memory: u64,
}

impl Audit {
    fn add(&mut self, page: &MappedPage) {
        let MappedPage { virt, rights, .. } = *page;
        self.pages += 1;
        if rights & (PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE) == PageTableFlags::WRITABLE {
            self.writable_and_executable += 1;
        }
        if virt >> 47 != 0 && rights.contains(PageTableFlags::USER_ACCESSIBLE) {
            self.user_in_kernel_half += 1;
        }
    }

    /// Checks that no page violates the rules.
    ///
    /// # Errors
    /// The audit itself, if a page violates a rule.
    pub fn check(self) -> Result<Audit, Audit> {
        let wrong = self.writable_and_executable + self.user_in_kernel_half + self.cached_outside_memory;
        if wrong == 0 { Ok(self) } else { Err(self) }
    }
}

/// Walks all mappings below a PML4.
#[must_use]
pub fn audit(pml4: PhysFrame) -> Audit {
    let mut audit = Audit::default();
    let info = boot::info();
    walk(pml4, 4, 0, 0..512, ALL_RIGHTS, &mut |page| {
        audit.add(&page);
        if page.is_write_back() && !info.covers(page.phys..page.phys + page.size) {
            audit.cached_outside_memory += 1;
        }
    });
    audit
}

/// Walks the mappings of the user half only, for a program that is about to start. The frames of programs come from the
/// allocator, so the memory map is not consulted.
#[must_use]
pub fn audit_user_half(pml4: PhysFrame) -> Audit {
    let mut audit = Audit::default();
    walk(pml4, 4, 0, 0..256, ALL_RIGHTS, &mut |page| audit.add(&page));
    audit
}

/// A mapped page, as the walk finds it.
struct MappedPage {
    /// The virtual address, without the sign extension.
    virt: u64,
    /// The physical address.
    phys: u64,
    /// The size in bytes.
    size: u64,
    /// The combined rights of all levels.
    rights: PageTableFlags,
    /// The flags of the lowest level.
    flags: PageTableFlags,
}

impl MappedPage {
    /// Returns whether the page is cached: without PCD and PWT its memory type is entry 0 or 4 of PAT, both write-back
    /// (`arch::cpu::control`).
    fn is_write_back(&self) -> bool {
        !self.flags.intersects(PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH)
    }
}

/// The rights at the start of a walk. Each level can only remove rights.
const ALL_RIGHTS: PageTableFlags = PageTableFlags::WRITABLE.union(PageTableFlags::USER_ACCESSIBLE);

/// Makes a page below 2 MiB, where the physical map has 4 KiB pages, read-only in the physical map. Call it only before
/// other CPUs run, because it flushes only this CPU's TLB.
pub fn protect_physmap_page(phys: u64) {
    let _guard = KERNEL_TABLES.lock();
    let page = Page::<Size4KiB>::containing_address(VirtAddr::new(PHYSMAP_BASE + phys));
    // SAFETY: the frame is the kernel's PML4, and the lock excludes other changes of the kernel's half. Nothing writes
    // this page after this call.
    let updated =
        unsafe { mapper(kernel_pml4()).update_flags(page, KERNEL_DATA & !PageTableFlags::WRITABLE) };
    updated.expect("the physical map must have 4 KiB pages below 2 MiB").flush();
}

/// Walks a page table's entries in `range` and passes each mapped page to `visit`. `rights` are the combined rights of
/// the levels above. A page is writable, or accessible from ring 3, only if all levels allow it, and is not executable if
/// any level forbids it (SDM 3A, 4.6.1).
fn walk(
    table: PhysFrame,
    level: u32,
    base: u64,
    range: Range<usize>,
    rights: PageTableFlags,
    visit: &mut impl FnMut(MappedPage),
) {
    // SAFETY: the physical map contains all page tables, and the walk only reads them. A program's user half belongs to
    // the caller alone. The kernel's half is walked only at boot, when no other CPU changes it.
    let entries = unsafe { &*phys_to_virt(table.start_address().as_u64()).cast::<PageTable>() };
    for (index, entry) in range.map(|index| (index, &entries[index])).filter(|(_, entry)| !entry.is_unused())
    {
        let flags = entry.flags();
        let rights = (rights & flags & ALL_RIGHTS) | ((rights | flags) & PageTableFlags::NO_EXECUTE);
        let size = 1 << (12 + 9 * (level - 1));
        let virt = base + index as u64 * size;
        if level > 1 && !flags.contains(PageTableFlags::HUGE_PAGE) {
            walk(PhysFrame::containing_address(entry.addr()), level - 1, virt, 0..512, rights, visit);
            continue;
        }
        // Bit 12 of a large page's entry is its PAT bit.
        visit(MappedPage { virt, phys: entry.addr().as_u64() & !(size - 1), size, rights, flags });
    }
}
