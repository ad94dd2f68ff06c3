//! The physical frame allocator: one bitmap for the machine, behind a lock that is held for a few instructions.

use core::ops::Range;
use core::{fmt, slice};

use spin::Mutex;
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

use crate::arch::boot::image;
use crate::arch::boot::{BootInfo, RegionKind};
use crate::frames::{self, Frame, FrameBitmap, FrameError, Region};
use crate::physmap::phys_to_virt;

static FRAMES: Mutex<Option<FrameBitmap<'static>>> = Mutex::new(None);

/// The memory map cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// The loader gave no usable memory at all.
    NoMemory,
    /// There is no stretch of free memory for the allocator's own bitmap.
    NoRoomForBitmap,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryError::NoMemory => "the loader's memory map names no usable memory",
            MemoryError::NoRoomForBitmap => "no free stretch of memory for the frame bitmap; try more memory",
        })
    }
}

impl core::error::Error for MemoryError {}

/// The loader's usable regions.
pub fn usable(info: &BootInfo) -> impl Iterator<Item = Region> + Clone {
    info.regions().iter().filter(|region| region.kind == RegionKind::Usable).map(|region| region.range)
}

/// Feeds the allocator from the memory map, less the kernel's image, the module and what firmware owns.
///
/// # Errors
/// See [`MemoryError`].
///
/// # Safety
/// Called once, on the BSP, with the boot tables still on: they map the first 4 GiB, where the bitmap will be.
pub unsafe fn init(info: &BootInfo) -> Result<(), MemoryError> {
    let highest = frames::highest_end(usable(info));
    let words = frames::words_for(highest);
    if words == 0 {
        return Err(MemoryError::NoMemory);
    }
    let image = image::physical();
    let firmware = info.regions().iter().filter(|region| region.kind == RegionKind::Firmware);
    let reserved = firmware
        .map(|region| region.range)
        .chain(info.module)
        .chain([Region { start: image.start, len: image.end - image.start }])
        // The real-mode interrupt table and the BIOS's data: an AP's vector 0 is not worth them.
        .chain([Region { start: 0, len: 4096 }]);

    let bytes = words as u64 * 8;
    let start = frames::place(bytes, usable(info), reserved.clone()).ok_or(MemoryError::NoRoomForBitmap)?;
    // SAFETY: `place` found it in usable memory that nobody has, the boot tables map it, and no reference to it
    // exists: `init` runs once.
    let bitmap = unsafe { slice::from_raw_parts_mut(phys_to_virt(start).cast::<u64>(), words) };
    let own = Region { start, len: bytes };
    *FRAMES.lock() = Some(FrameBitmap::new(bitmap, usable(info), reserved.chain([own])));
    Ok(())
}

fn with<R>(f: impl FnOnce(&mut FrameBitmap<'static>) -> R) -> Option<R> {
    FRAMES.lock().as_mut().map(f)
}

/// How many frames are free.
#[must_use]
pub fn free_count() -> u64 {
    with(|frames| frames.free_count()).unwrap_or(0)
}

/// How many frames the allocator has in all.
#[must_use]
pub fn total() -> u64 {
    with(|frames| frames.total_usable()).unwrap_or(0)
}

/// Takes a frame. Its content is whatever was there.
#[must_use]
pub fn alloc() -> Option<Frame> {
    with(FrameBitmap::alloc).flatten()
}

/// Takes the lowest free frame in a range of physical addresses.
#[must_use]
pub fn alloc_in(range: Range<u64>) -> Option<Frame> {
    with(|frames| frames.alloc_in(range)).flatten()
}

/// Takes frames that follow each other; the first of them.
#[must_use]
pub fn alloc_contiguous(count: u64) -> Option<Frame> {
    with(|frames| frames.alloc_contiguous(count)).flatten()
}

/// Takes a frame and fills it with zeros.
#[must_use]
pub fn alloc_zeroed() -> Option<Frame> {
    let frame = alloc()?;
    // SAFETY: the frame is ours alone, and the physical map has all usable memory.
    unsafe { phys_to_virt(frame.start()).write_bytes(0, 4096) };
    Some(frame)
}

/// Gives a frame back.
///
/// # Errors
/// If it is free already or was never handed out: an invariant of the kernel is broken.
///
/// # Safety
/// Nothing refers to the frame any more: no mapping, no pointer, no CPU's CR3.
pub unsafe fn free(frame: Frame) -> Result<(), FrameError> {
    with(|frames| frames.free(frame)).unwrap_or(Err(FrameError::OutOfRange(frame)))
}

/// The allocator as the `x86_64` crate's mapper wants it: zeroed frames for page tables, counted.
#[derive(Default)]
pub struct TableFrames {
    /// How many were taken.
    pub taken: u64,
}

// SAFETY: every frame comes from the bitmap, which hands it out once.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = alloc_zeroed()?;
        self.taken += 1;
        Some(PhysFrame::containing_address(PhysAddr::new(frame.start())))
    }
}
