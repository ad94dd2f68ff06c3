//! The state of the physical frame allocator: one bit per frame, set while the frame is free.
//!
//! The caller owns the bitmap, which is a slice. [`words_for`] returns the length of the bitmap, and [`place`] finds
//! room for it in a memory map, which need not be sorted.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::Range;

use kernel_abi::layout::PAGE_SIZE;

/// One past the highest physical address of the architecture, which has 52 bits (SDM 3A, 4.1.4). The part of a memory
/// map beyond this address is ignored.
pub const PHYS_END: u64 = 1 << 52;
/// The end of low memory. The allocator uses memory below 1 MiB last, because the code that APs start in must lie
/// there.
const LOW_MEMORY_END: u64 = 1 << 20;
const FRAMES_PER_WORD: u64 = u64::BITS as u64;

/// A range of physical memory from a memory map. Start and length are arbitrary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Length in bytes; may be 0, and may reach beyond the end of memory.
    pub len: u64,
}

impl Region {
    /// Returns one past the last byte, at most [`PHYS_END`].
    const fn end(self) -> u64 {
        let end = self.start.saturating_add(self.len);
        if end < PHYS_END { end } else { PHYS_END }
    }

    /// Returns the frames that lie completely inside the region.
    fn inner(self) -> Range<u64> {
        self.start.div_ceil(PAGE_SIZE)..self.end() / PAGE_SIZE
    }

    /// Returns the frames of which at least one byte lies inside the region.
    fn outer(self) -> Range<u64> {
        if self.len == 0 { 0..0 } else { self.start / PAGE_SIZE..self.end().div_ceil(PAGE_SIZE) }
    }
}

/// The number of a physical frame of 4 KiB. The type does not prove that the frame is RAM, or who owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Frame(u64);

impl Frame {
    /// Returns the frame that contains this physical address.
    #[must_use]
    pub const fn containing(addr: u64) -> Frame {
        Frame(addr / PAGE_SIZE)
    }

    /// Returns the physical address of the frame's first byte.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.0 * PAGE_SIZE
    }

    /// Returns the frame's number: its address divided by 4096.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// The reason why a frame cannot be freed. The error is a bug in the caller, and the bitmap is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The frame is already free.
    DoubleFree(Frame),
    /// The frame is beyond the bitmap.
    OutOfRange(Frame),
    /// All frames of the pool are free, so this frame was not allocated.
    NotAllocated(Frame),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, frame) = match self {
            FrameError::DoubleFree(frame) => ("was freed twice", frame),
            FrameError::OutOfRange(frame) => ("was freed but is beyond the memory map", frame),
            FrameError::NotAllocated(frame) => ("was freed but never allocated", frame),
        };
        write!(f, "the physical frame at {:#x} {what}", frame.start())
    }
}

impl core::error::Error for FrameError {}

/// Returns one past the highest usable byte of a memory map; 0 if no byte is usable.
pub fn highest_end(usable: impl IntoIterator<Item = Region>) -> u64 {
    usable
        .into_iter()
        .map(|region| region.inner())
        .filter(|f| !f.is_empty())
        .map(|f| f.end)
        .max()
        .unwrap_or(0)
        * PAGE_SIZE
}

/// Returns whether every byte of a range of physical addresses lies in one of the regions, which may be in any order,
/// overlap or adjoin.
pub fn covers(regions: impl Iterator<Item = Region> + Clone, range: Range<u64>) -> bool {
    let mut at = range.start;
    while at < range.end {
        let containing = regions.clone().filter(|region| region.start <= at && at < region.end());
        match containing.map(Region::end).max() {
            Some(end) => at = end,
            None => return false,
        }
    }
    true
}

/// Returns the number of words in a bitmap for all frames below `highest_end`.
#[must_use]
pub const fn words_for(highest_end: u64) -> usize {
    highest_end.div_ceil(PAGE_SIZE).div_ceil(FRAMES_PER_WORD) as usize
}

/// Returns the lowest page-aligned physical address at or above 1 MiB where `bytes` bytes lie completely in one usable
/// region and outside all reserved regions; `None` if there is no such address.
pub fn place<U, R>(bytes: u64, usable: U, reserved: R) -> Option<u64>
where
    U: IntoIterator<Item = Region>,
    R: IntoIterator<Item = Region> + Clone,
{
    let frames = bytes.div_ceil(PAGE_SIZE);
    let lowest_in = |region: Region| {
        let region = region.inner();
        let mut start = region.start.max(LOW_MEMORY_END / PAGE_SIZE);
        loop {
            let end = start.checked_add(frames).filter(|&end| end <= region.end)?;
            // Each iteration starts after a reserved range, so there are no more iterations than ranges.
            let mut in_the_way = reserved.clone().into_iter().map(Region::outer);
            match in_the_way.find(|r| r.start < end && start < r.end) {
                Some(range) => start = range.end,
                None => return Some(start * PAGE_SIZE),
            }
        }
    };
    usable.into_iter().filter_map(lowest_in).min()
}

/// The bitmap of all frames below the end of memory.
#[derive(Debug)]
pub struct FrameBitmap<'a> {
    words: &'a mut [u64],
    /// The word at which the next search starts.
    hint: usize,
    free: u64,
    total: u64,
}

impl<'a> FrameBitmap<'a> {
    /// Frees every frame that lies completely in a usable region and has no byte in a reserved region. The regions may
    /// be in any order and may overlap. Overwrites `words`; ignores frames beyond the end of `words`.
    pub fn new<U, R>(words: &'a mut [u64], usable: U, reserved: R) -> FrameBitmap<'a>
    where
        U: IntoIterator<Item = Region>,
        R: IntoIterator<Item = Region>,
    {
        words.fill(0);
        for region in usable {
            for_each_mask(words, region.inner(), |word, mask| *word |= mask);
        }
        for region in reserved {
            for_each_mask(words, region.outer(), |word, mask| *word &= !mask);
        }
        let free = words.iter().map(|word| u64::from(word.count_ones())).sum();
        let low_words = (LOW_MEMORY_END / PAGE_SIZE / FRAMES_PER_WORD) as usize;
        let hint = if low_words < words.len() { low_words } else { 0 };
        FrameBitmap { words, hint, free, total: free }
    }

    /// Allocates a free frame; `None` if there is none. Does not clear the frame.
    ///
    /// Each search starts where the previous one ended and wraps around. While at least 1/64 of the frames are free, it
    /// examines at most one word per call on average.
    pub fn alloc(&mut self) -> Option<Frame> {
        if self.free == 0 {
            return None;
        }
        let (before, from) = self.words.split_at(self.hint);
        let ahead = from.iter().position(|&word| word != 0).map(|at| self.hint + at);
        let index = ahead.or_else(|| before.iter().position(|&word| word != 0))?;
        self.hint = index;
        let bit = self.words[index].trailing_zeros();
        Some(self.take(index, bit))
    }

    /// Allocates the lowest free frame that lies completely in a range of physical addresses; `None` if there is none.
    pub fn alloc_in(&mut self, range: Range<u64>) -> Option<Frame> {
        let first = range.start.div_ceil(PAGE_SIZE);
        let end = (range.end / PAGE_SIZE).min(self.words.len() as u64 * FRAMES_PER_WORD);
        let frame = (first..end).find(|&frame| self.is_free(Frame(frame)))?;
        let (index, bit) = position(frame);
        Some(self.take(index, bit))
    }

    /// Allocates the lowest `count` consecutive free frames above 1 MiB; `None` if there are none.
    pub fn alloc_contiguous(&mut self, count: u64) -> Option<Frame> {
        let end = self.words.len() as u64 * FRAMES_PER_WORD;
        let mut start = LOW_MEMORY_END / PAGE_SIZE;
        while count > 0 && count <= end.saturating_sub(start) {
            match (start..start + count).rev().find(|&frame| !self.is_free(Frame(frame))) {
                // Continue after the last frame that is in use.
                Some(taken) => start = taken + 1,
                None => {
                    for frame in start..start + count {
                        let (index, bit) = position(frame);
                        self.take(index, bit);
                    }
                    return Some(Frame(start));
                }
            }
        }
        None
    }

    /// Allocates the lowest free frame that ends at or below `limit`, a physical address.
    pub fn alloc_below(&mut self, limit: u64) -> Option<Frame> {
        self.alloc_in(0..limit)
    }

    /// Frees a frame.
    ///
    /// # Errors
    /// [`FrameError`] if the frame cannot have been allocated. A frame outside the memory map has the same state as an
    /// allocated frame, so not every wrong call is detected.
    pub fn free(&mut self, frame: Frame) -> Result<(), FrameError> {
        let (index, bit) = position(frame.0);
        let word = self.words.get_mut(index).ok_or(FrameError::OutOfRange(frame))?;
        if *word & (1 << bit) != 0 {
            return Err(FrameError::DoubleFree(frame));
        }
        if self.free == self.total {
            return Err(FrameError::NotAllocated(frame));
        }
        *word |= 1 << bit;
        self.free += 1;
        Ok(())
    }

    /// Returns whether the frame is in the pool and free.
    #[must_use]
    pub fn is_free(&self, frame: Frame) -> bool {
        let (index, bit) = position(frame.0);
        self.words.get(index).is_some_and(|word| word & (1 << bit) != 0)
    }

    /// Returns the number of free frames.
    #[must_use]
    pub const fn free_count(&self) -> u64 {
        self.free
    }

    /// Returns the number of frames that were free initially.
    #[must_use]
    pub const fn total_usable(&self) -> u64 {
        self.total
    }

    fn take(&mut self, index: usize, bit: u32) -> Frame {
        self.words[index] &= !(1 << bit);
        self.free -= 1;
        Frame(index as u64 * FRAMES_PER_WORD + u64::from(bit))
    }
}

/// Returns the word index and the bit number of a frame.
const fn position(frame: u64) -> (usize, u32) {
    ((frame / FRAMES_PER_WORD) as usize, (frame % FRAMES_PER_WORD) as u32)
}

/// Calls `edit` for each word that covers frames of the range, with a mask of these frames.
fn for_each_mask(words: &mut [u64], frames: Range<u64>, mut edit: impl FnMut(&mut u64, u64)) {
    let end = frames.end.min(words.len() as u64 * FRAMES_PER_WORD);
    let mut frame = frames.start;
    while frame < end {
        let (index, bit) = position(frame);
        let count = (FRAMES_PER_WORD - u64::from(bit)).min(end - frame);
        edit(&mut words[index], (u64::MAX >> (FRAMES_PER_WORD - count)) << bit);
        frame += count;
    }
}

#[cfg(test)]
mod tests;
