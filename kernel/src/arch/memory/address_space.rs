//! A program's address space: a PML4 of its own, whose upper half is the kernel's.

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

/// A leaf that does not own its frame: the page that all copies of a program share.
const SHARED: PageTableFlags = PageTableFlags::BIT_9;
/// The PML4's entries of the kernel's half.
const KERNEL_ENTRIES: core::ops::Range<usize> = 256..512;

/// What a program may do with a page.
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

/// A program's pages. Dropping it gives every frame back, page tables included.
pub struct AddressSpace {
    pml4: PhysFrame,
    pages: u64,
    tables: TableFrames,
}

impl AddressSpace {
    /// An address space in which ring 3 has nothing.
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
        // SAFETY: the new table is ours; the kernel's is only read, and its upper half does not change any more.
        let (new, kernel) = unsafe {
            let table = |pml4: PhysFrame| phys_to_virt(pml4.start_address().as_u64()).cast::<PageTable>();
            (&mut *table(space.pml4), &*table(paging::kernel_pml4()))
        };
        for index in KERNEL_ENTRIES {
            new[index] = kernel[index].clone();
        }
        Ok(space)
    }

    /// Maps a page to a fresh frame, zeroed.
    ///
    /// # Errors
    /// [`MapError::Occupied`] if one is there already, [`MapError::OutOfMemory`].
    pub fn map(&mut self, address: u64, rights: Rights) -> Result<(), MapError> {
        if self.frame_at(address).is_some() {
            return Err(MapError::Occupied);
        }
        let frame = physmem::alloc_zeroed().ok_or(MapError::OutOfMemory)?;
        let mapped = self.map_frame(address, frame, rights.flags());
        self.pages += 1;
        if mapped.is_err() {
            self.pages -= 1;
            // SAFETY: the mapping was not made, so nothing refers to the frame.
            unsafe { physmem::free(frame) }.expect("a frame just taken can be given back");
        }
        mapped
    }

    /// Maps the page that all copies share; its frame stays the caller's.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map_shared(&mut self, address: u64, frame: Frame) -> Result<(), MapError> {
        self.map_frame(address, frame, Rights { write: true, execute: false }.flags() | SHARED)
    }

    fn map_frame(&mut self, address: u64, frame: Frame, flags: PageTableFlags) -> Result<(), MapError> {
        assert!(address < USER_END, "a program's page outside of the user half");
        let page = Page::<Size4KiB>::containing_address(VirtAddr::new(address));
        let frame = PhysFrame::containing_address(PhysAddr::new(frame.start()));
        // SAFETY: this address space is not loaded on any CPU while it is being built, and ring 3's pages hold
        // no object of the kernel's.
        let mut tables = unsafe { paging::mapper(self.pml4) };
        // SAFETY: as above.
        unsafe { tables.map_to(page, frame, flags, &mut self.tables) }?.ignore();
        Ok(())
    }

    /// Walks its mappings.
    #[must_use]
    pub fn audit(&self) -> Audit {
        paging::audit_user_half(self.pml4)
    }

    /// How many frames it has, page tables included.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.pages + self.tables.taken
    }

    fn frame_at(&self, address: u64) -> Option<u64> {
        // SAFETY: nobody changes these tables meanwhile: `self` is borrowed.
        let tables = unsafe { paging::mapper(self.pml4) };
        match tables.translate(VirtAddr::new(address)) {
            TranslateResult::Mapped { frame, offset, .. } => Some(frame.start_address().as_u64() + offset),
            _ => None,
        }
    }

    /// Copies bytes to pages that are mapped, whatever ring 3's rights to them.
    ///
    /// # Panics
    /// If one is not mapped.
    pub fn write(&mut self, address: u64, mut bytes: &[u8]) {
        let mut address = address;
        while !bytes.is_empty() {
            let in_page = (PAGE_SIZE - address % PAGE_SIZE).min(bytes.len() as u64) as usize;
            let phys = self.frame_at(address).expect("the loader writes to pages that it has mapped");
            // SAFETY: the frame belongs to this address space alone, and the physical map has it.
            unsafe { phys_to_virt(phys).copy_from_nonoverlapping(bytes.as_ptr(), in_page) };
            bytes = &bytes[in_page..];
            address += in_page as u64;
        }
    }

    /// Makes this the CPU's address space.
    ///
    /// # Safety
    /// The kernel's tables are loaded again before it is dropped.
    pub unsafe fn load(&self) {
        // SAFETY: the upper half is the kernel's, so the code that runs here stays where it is.
        unsafe { Cr3::write(self.pml4, Cr3Flags::empty()) };
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        assert!(Cr3::read().0 != self.pml4, "an address space is dropped while it is loaded");
        free_below(self.pml4, 4, 0..KERNEL_ENTRIES.start);
    }
}

/// Gives back a table's frame and everything below its entries in `range`.
fn free_below(table: PhysFrame, level: u32, range: core::ops::Range<usize>) {
    // SAFETY: the table belongs to an address space that no CPU has loaded.
    let entries = unsafe { &*phys_to_virt(table.start_address().as_u64()).cast::<PageTable>() };
    for entry in range.map(|index| &entries[index]).filter(|entry| !entry.is_unused()) {
        let frame = PhysFrame::containing_address(entry.addr());
        if level > 1 {
            free_below(frame, level - 1, 0..512);
        } else if !entry.flags().contains(SHARED) {
            give_back(frame);
        }
    }
    give_back(table);
}

fn give_back(frame: PhysFrame) {
    // SAFETY: the only mapping of the frame was in the address space that is being taken down.
    unsafe { physmem::free(Frame::containing(frame.start_address().as_u64())) }
        .expect("an address space's frames are its own");
}
