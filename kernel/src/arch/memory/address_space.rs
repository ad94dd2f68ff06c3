//! A program's address space: a PML4 per copy of a program, whose upper half holds the kernel's entries.

use kernel_abi::layout::{PAGE_SIZE, USER_END};
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::{
    Mapper, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB, mapper::Translate, mapper::TranslateResult,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::memory::paging::{self, Audit, MapError};
use crate::arch::memory::physmem::{self, TableFrames};
use crate::frames::Frame;
use crate::physmap::phys_to_virt;

/// Marks a leaf entry that does not own its frame, because all copies of a program map the frame.
const SHARED: PageTableFlags = PageTableFlags::BIT_9;
/// The indices of the PML4 entries of the kernel's half.
const KERNEL_ENTRIES: core::ops::Range<usize> = 256..512;

/// A program's rights to a page, in addition to read access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Ring 3 may write.
    pub write: bool,
    /// Ring 3 may execute.
    pub execute: bool,
}

impl Rights {
    fn flags(self) -> PageTableFlags {
        let mut flags = PageTableFlags::PRESENT | PageTableFlags::USER_ACCESSIBLE;
        flags.set(PageTableFlags::WRITABLE, self.write);
        flags.set(PageTableFlags::NO_EXECUTE, !self.execute);
        flags
    }
}

/// A program's address space. Dropping it frees all frames of the program, including those of the page tables.
pub struct AddressSpace {
    pml4: PhysFrame,
    pages: u64,
    tables: TableFrames,
}

impl AddressSpace {
    /// Creates an address space without user pages.
    ///
    /// # Errors
    /// [`MapError::OutOfMemory`].
    pub fn new() -> Result<AddressSpace, MapError> {
        let frame = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?;
        let space = AddressSpace {
            pml4: PhysFrame::containing_address(PhysAddr::new(frame.start())),
            pages: 0,
            tables: TableFrames { taken: 1 },
        };
        // SAFETY: nothing else refers to the new table (invariant: OWN-FRAMES). The kernel's PML4 is only read, and its
        // upper half no longer changes (invariant: KERNEL-HALF-FIXED).
        let (new, kernel) = unsafe {
            let table = |pml4: PhysFrame| phys_to_virt(pml4.start_address().as_u64()).cast::<PageTable>();
            (&mut *table(space.pml4), &*table(paging::kernel_pml4()))
        };
        for index in KERNEL_ENTRIES {
            new[index] = kernel[index].clone();
        }
        Ok(space)
    }

    /// Maps a page to a new zeroed frame.
    ///
    /// # Errors
    /// [`MapError::Occupied`] if the page is mapped already; [`MapError::OutOfMemory`].
    pub fn map(&mut self, address: u64, rights: Rights) -> Result<(), MapError> {
        if self.frame_at(address).is_some() {
            return Err(MapError::Occupied);
        }
        let frame = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?;
        let mapped = self.map_frame(address, frame, rights.flags());
        self.pages += 1;
        if mapped.is_err() {
            self.pages -= 1;
            // SAFETY: the frame was not mapped, so nothing refers to it.
            unsafe { physmem::free(frame) }.expect("cannot free a frame that was just allocated");
        }
        mapped
    }

    /// Maps a page to a frame that all copies of a program share. The caller keeps ownership of the frame.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map_shared(&mut self, address: u64, frame: Frame, rights: Rights) -> Result<(), MapError> {
        self.map_frame(address, frame, rights.flags() | SHARED)
    }

    /// Maps a page to the frame that `other` maps there, which must outlive this address space. Nothing may write to
    /// the frame any more.
    ///
    /// # Errors
    /// [`MapError`].
    ///
    /// # Panics
    /// If `other` does not map the page.
    pub fn map_as_in(
        &mut self,
        other: &'static AddressSpace,
        address: u64,
        rights: Rights,
    ) -> Result<(), MapError> {
        let phys = other.frame_at(address).expect("the other address space must map the page");
        self.map_shared(address, Frame::containing(phys), rights)
    }

    fn map_frame(&mut self, address: u64, frame: Frame, flags: PageTableFlags) -> Result<(), MapError> {
        assert!(address < USER_END, "a program's page lies outside the user half");
        let page = Page::<Size4KiB>::containing_address(VirtAddr::new(address));
        let frame = PhysFrame::containing_address(PhysAddr::new(frame.start()));
        // SAFETY: the frame holds this address space's PML4, and `self` is borrowed exclusively.
        let mut tables = unsafe { paging::mapper(self.pml4) };
        // SAFETY: no CPU has this address space loaded while it is being built, and the page lies in the user half,
        // which contains no kernel object.
        unsafe { tables.map_to(page, frame, flags, &mut self.tables) }?.ignore();
        Ok(())
    }

    /// Walks all mappings of the user half and checks their rights.
    #[must_use]
    pub fn audit(&self) -> Audit {
        paging::audit_user_half(self.pml4)
    }

    /// Returns the number of frames that the address space owns, page tables included.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.pages + self.tables.taken
    }

    /// Returns the physical address that a user address is mapped to.
    fn frame_at(&self, address: u64) -> Option<u64> {
        // SAFETY: the frame holds this address space's PML4, and while `self` is borrowed nothing changes its tables.
        let tables = unsafe { paging::mapper(self.pml4) };
        match tables.translate(VirtAddr::new(address)) {
            TranslateResult::Mapped { frame, offset, .. } => Some(frame.start_address().as_u64() + offset),
            _ => None,
        }
    }

    /// Copies bytes to mapped pages that this address space owns, regardless of ring 3's rights to them.
    ///
    /// # Panics
    /// If one of the pages is not mapped.
    pub fn write(&mut self, address: u64, mut bytes: &[u8]) {
        let mut address = address;
        while !bytes.is_empty() {
            let in_page = (PAGE_SIZE - address % PAGE_SIZE).min(bytes.len() as u64) as usize;
            let phys =
                self.frame_at(address).expect("the loader must write only to pages that it has mapped");
            // SAFETY: the frame belongs to this address space alone (invariant: OWN-FRAMES), the copy does not cross
            // the end of the page, and the physical map contains all usable memory.
            unsafe { phys_to_virt(phys).copy_from_nonoverlapping(bytes.as_ptr(), in_page) };
            bytes = &bytes[in_page..];
            address += in_page as u64;
        }
    }

    /// Loads CR3 with this address space.
    ///
    /// # Safety
    /// The kernel's tables must be loaded again before this address space is dropped.
    pub unsafe fn load(&self) {
        // SAFETY: the upper half holds the kernel's entries, so everything that ring 0 uses stays mapped at the same
        // address.
        unsafe { Cr3::write(self.pml4, Cr3Flags::empty()) };
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        assert!(Cr3::read().0 != self.pml4, "an address space is dropped while CR3 holds it");
        free_below(self.pml4, 4, 0..KERNEL_ENTRIES.start);
    }
}

/// Frees a page table's frame and all frames below the table's entries in `range`, except shared ones.
fn free_below(table: PhysFrame, level: u32, range: core::ops::Range<usize>) {
    // SAFETY: the table belongs to an address space that no CPU has loaded, and nothing else refers to it.
    let entries = unsafe { &*phys_to_virt(table.start_address().as_u64()).cast::<PageTable>() };
    for entry in range.map(|index| &entries[index]).filter(|entry| !entry.is_unused()) {
        let frame = PhysFrame::containing_address(entry.addr());
        if level > 1 {
            free_below(frame, level - 1, 0..512);
        } else if !entry.flags().contains(SHARED) {
            free(frame);
        }
    }
    free(table);
}

fn free(frame: PhysFrame) {
    // SAFETY: the frame belongs to the address space that is being dropped (invariant: OWN-FRAMES), which no CPU has
    // loaded.
    unsafe { physmem::free(Frame::containing(frame.start_address().as_u64())) }
        .expect("an address space must free each of its frames only once");
}
