//! The physical frame allocator: one bitmap for all memory, protected by a lock that is held for one operation at a
//! time.

use core::arch::x86_64::__cpuid;
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

/// The reason why the memory map cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// The loader reported no usable memory.
    NoMemory,
    /// No contiguous free range is large enough for the allocator's bitmap.
    NoRoomForBitmap,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryError::NoMemory => "the loader's memory map contains no usable memory",
            MemoryError::NoRoomForBitmap => {
                "no contiguous free memory for the frame bitmap; give the machine more memory"
            }
        })
    }
}

impl core::error::Error for MemoryError {}

/// Returns one past the highest physical address that the CPU supports. A page-table entry with a higher address would
/// cause a page fault (SDM 3A, 4.7).
#[must_use]
pub fn address_end() -> u64 {
    let leaf = 0x8000_0008;
    let bits = if __cpuid(0x8000_0000).eax >= leaf { __cpuid(leaf).eax & 0xff } else { 36 };
    frames::PHYS_END.min(1 << bits.min(63))
}

/// Iterates over the usable regions of the loader's memory map.
pub fn usable(info: &BootInfo) -> impl Iterator<Item = Region> + Clone {
    info.regions().iter().filter(|region| region.kind == RegionKind::Usable).map(|region| region.range)
}

/// Sets up the allocator with the memory map's usable regions, except the kernel's image, the module, the firmware's
/// regions and the first page.
///
/// # Errors
/// See [`MemoryError`].
///
/// # Safety
/// Called once, on the BSP, with the boot tables in use.
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
        // Page 0 holds the real-mode interrupt table and the BIOS data area. It could otherwise be chosen as the APs'
        // start page.
        .chain([Region { start: 0, len: 4096 }]);

    let bytes = words as u64 * 8;
    let start = frames::place(bytes, usable(info), reserved.clone()).ok_or(MemoryError::NoRoomForBitmap)?;
    // SAFETY: `place` has found the range in usable memory that is not reserved, the boot tables map it, and no other
    // reference to it exists: `init` runs once.
    let bitmap = unsafe { slice::from_raw_parts_mut(phys_to_virt(start).cast::<u64>(), words) };
    let bitmap_range = Region { start, len: bytes };
    *FRAMES.lock() = Some(FrameBitmap::new(bitmap, usable(info), reserved.chain([bitmap_range])));
    Ok(())
}

/// Runs `f` with the allocator, under its lock. Returns `None` before [`init`].
fn with<R>(f: impl FnOnce(&mut FrameBitmap<'static>) -> R) -> Option<R> {
    FRAMES.lock().as_mut().map(f)
}

/// Returns the number of free frames.
#[must_use]
pub fn free_count() -> u64 {
    with(|frames| frames.free_count()).unwrap_or(0)
}

/// Returns the number of frames that the allocator manages.
#[must_use]
pub fn total() -> u64 {
    with(|frames| frames.total_usable()).unwrap_or(0)
}

/// Allocates a frame. Its content is undefined.
#[must_use]
pub fn alloc() -> Option<Frame> {
    with(FrameBitmap::alloc).flatten()
}

/// Allocates the lowest free frame in a range of physical addresses.
#[must_use]
pub fn alloc_in(range: Range<u64>) -> Option<Frame> {
    with(|frames| frames.alloc_in(range)).flatten()
}

/// Allocates contiguous frames and returns the first.
#[must_use]
pub fn alloc_contiguous(count: u64) -> Option<Frame> {
    with(|frames| frames.alloc_contiguous(count)).flatten()
}

/// Allocates a frame and fills it with zeros.
#[must_use]
pub fn alloc_zeroed() -> Option<Frame> {
    let frame = alloc()?;
    // SAFETY: nothing else refers to the frame (invariant: OWN-FRAMES), and the physical map contains all usable
    // memory.
    unsafe { phys_to_virt(frame.start()).write_bytes(0, 4096) };
    Some(frame)
}

/// Frees a frame.
///
/// # Errors
/// If the frame is already free or was never allocated. Both violate the invariant OWN-FRAMES.
///
/// # Safety
/// Nothing refers to the frame: no mapping except the physical map, no pointer and no CR3.
pub unsafe fn free(frame: Frame) -> Result<(), FrameError> {
    with(|frames| frames.free(frame)).unwrap_or(Err(FrameError::OutOfRange(frame)))
}

/// Adapter from this allocator to the `x86_64` crate's mapper. Provides zeroed frames for page tables and counts them.
#[derive(Default)]
pub struct TableFrames {
    /// The number of frames allocated through this adapter.
    pub taken: u64,
}

// SAFETY: every frame comes from the bitmap, which allocates it once (invariant: OWN-FRAMES).
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = alloc_zeroed()?;
        self.taken += 1;
        Some(PhysFrame::containing_address(PhysAddr::new(frame.start())))
    }
}
