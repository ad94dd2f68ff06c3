//! The frame buffer's format, and the size of the text on it.

use core::fmt;

use kernel_abi::boot::FrameBuffer;
use kernel_abi::layout::PAGE_SIZE;

use super::cells::{COLUMNS_MAX, Colour, ROWS_MAX};
use super::font;
use crate::frames::Region;
use crate::layout::FRAME_BUFFER_SIZE;

/// Bytes per pixel. UEFI has no other format (UEFI 2.10, 12.9.2), and GRUB is asked for this one.
const PIXEL: u64 = 4;
/// The largest width and height in pixels. Up to this limit, the sizes computed below fit in their types.
const SIZE_MAX: u32 = 1 << 15;

/// The reason why the kernel cannot write to the frame buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreenError {
    /// The screen has no frame buffer: its mode allows only drawing by the firmware.
    NoFrameBuffer,
    /// The bits for red, green and blue. A colour has no bits, or its bits have gaps or overlap those of another
    /// colour.
    Format([u32; 3]),
    /// The width, the height and the distance between two lines, in pixels. One of them is too small or too large, or
    /// the frame buffer is too short for them.
    Size(u32, u32, u32),
    /// The frame buffer does not lie below the highest physical address of the CPU. The values are its first byte and
    /// its length.
    Address(u64, u64),
    /// The frame buffer is larger than the range to which the kernel maps it. The value is its length.
    TooLarge(u64),
    /// The frame buffer overlaps memory that has another use. The values are its first byte and its length.
    InMemory(u64, u64),
}

impl fmt::Display for ScreenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ScreenError::NoFrameBuffer => f.write_str("its mode has no frame buffer"),
            ScreenError::Format([red, green, blue]) => {
                write!(f, "its pixels have the format {red:#x} {green:#x} {blue:#x} (red, green, blue)")
            }
            ScreenError::Size(width, height, stride) => {
                write!(f, "its size of {width}x{height} pixels, {stride} per line, is not supported")
            }
            ScreenError::Address(start, len) => {
                write!(f, "the CPU cannot address its frame buffer of {len} bytes at {start:#x}")
            }
            ScreenError::TooLarge(len) => {
                write!(f, "its frame buffer has {len} bytes, more than {FRAME_BUFFER_SIZE}")
            }
            ScreenError::InMemory(start, len) => {
                write!(f, "its frame buffer of {len} bytes at {start:#x} overlaps the machine's memory")
            }
        }
    }
}

impl core::error::Error for ScreenError {}

/// A frame buffer to which the kernel can write, and the size of the text on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Physical address, a multiple of 4.
    pub start: u64,
    /// Visible pixels per line.
    pub width: usize,
    /// Number of lines.
    pub height: usize,
    /// Pixels from the start of a line to the start of the next.
    pub stride: usize,
    /// The bits for red, green and blue.
    masks: [u32; 3],
    /// The number of pixels, in each direction, for a pixel of the font.
    pub scale: usize,
    /// Characters per row.
    pub columns: usize,
    /// Rows of text.
    pub rows: usize,
}

impl Mode {
    /// Checks a frame buffer. `address_end` is one past the highest physical address of the CPU. `memory` holds the
    /// ranges that the kernel or the firmware uses. Returns `None` if the machine has no screen.
    ///
    /// # Errors
    /// [`ScreenError`].
    pub fn of(
        buffer: &FrameBuffer,
        address_end: u64,
        mut memory: impl Iterator<Item = Region>,
    ) -> Result<Option<Mode>, ScreenError> {
        let FrameBuffer { start, len, width, height, stride, masks } = *buffer;
        if width == 0 && height == 0 {
            return Ok(None);
        }
        if start == 0 || len == 0 {
            return Err(ScreenError::NoFrameBuffer);
        }
        if !are_distinct(masks) {
            return Err(ScreenError::Format(masks));
        }
        let bytes = u64::from(stride) * u64::from(height) * PIXEL;
        let fits = stride >= width && stride <= SIZE_MAX && height <= SIZE_MAX && bytes <= len;
        // Large screens get large characters: the width of a character is at least 1/240 of the screen's width.
        let scale = (width as usize).div_ceil(COLUMNS_MAX * font::WIDTH);
        let scale = scale.max((height as usize).div_ceil(ROWS_MAX * font::HEIGHT));
        let columns = width as usize / (font::WIDTH * scale);
        let rows = height as usize / (font::HEIGHT * scale);
        if !fits || columns < 40 || rows < 10 || !start.is_multiple_of(PIXEL) {
            return Err(ScreenError::Size(width, height, stride));
        }
        if start % PAGE_SIZE + bytes > FRAME_BUFFER_SIZE {
            return Err(ScreenError::TooLarge(bytes));
        }
        let end = start.checked_add(bytes).filter(|&end| end <= address_end);
        let end = end.ok_or(ScreenError::Address(start, bytes))?;
        if memory.any(|region| {
            region.len != 0 && start < region.start.saturating_add(region.len) && region.start < end
        }) {
            return Err(ScreenError::InMemory(start, bytes));
        }
        let (width, height, stride) = (width as usize, height as usize, stride as usize);
        Ok(Some(Mode { start, width, height, stride, masks, scale, columns, rows }))
    }

    /// Returns the number of pixels in the frame buffer, invisible ones included.
    #[must_use]
    pub const fn pixels(&self) -> usize {
        self.stride * self.height
    }

    /// Returns the size of the frame buffer in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.pixels() as u64 * PIXEL
    }

    /// Returns the pixel of a colour.
    #[must_use]
    pub fn pixel(&self, colour: Colour) -> u32 {
        let levels: [u32; 3] = match colour {
            Colour::Text => [0xd0, 0xd0, 0xd0],
            Colour::Good => [0x40, 0xe0, 0x40],
            Colour::Bad => [0xff, 0x70, 0x50],
        };
        let channel = |(mask, level): (u32, u32)| {
            let (shift, max) = (mask.trailing_zeros(), u64::from(mask >> mask.trailing_zeros()));
            ((u64::from(level) * max / 0xff) as u32) << shift
        };
        self.masks.into_iter().zip(levels).map(channel).sum()
    }
}

/// Returns whether each colour has bits, without a gap, and no bit belongs to two colours.
fn are_distinct(masks: [u32; 3]) -> bool {
    let without_gap = |mask: u32| {
        let bits = u64::from(mask >> mask.trailing_zeros().min(31));
        mask != 0 && (bits + 1).is_power_of_two()
    };
    let [red, green, blue] = masks;
    masks.into_iter().all(without_gap) && red & green | red & blue | green & blue == 0
}

#[cfg(test)]
mod tests {
    use core::iter;

    use super::*;

    const RGB: [u32; 3] = [0xff, 0xff00, 0xff_0000];
    /// One past the highest address of a CPU with 40 address bits.
    const ADDRESS_END: u64 = 1 << 40;
    const BGR: [u32; 3] = [0xff_0000, 0xff00, 0xff];

    fn buffer(width: u32, height: u32, stride: u32) -> FrameBuffer {
        let len = u64::from(stride) * u64::from(height) * 4;
        FrameBuffer { start: 0x8000_0000, len, width, height, stride, masks: BGR }
    }

    fn mode(buffer: FrameBuffer) -> Result<Option<Mode>, ScreenError> {
        Mode::of(&buffer, ADDRESS_END, iter::empty())
    }

    #[test]
    fn text_fits_on_every_screen() {
        let table = [
            (640, 480, 1, 80, 30),
            (800, 600, 1, 100, 37),
            (1280, 800, 1, 160, 50),
            (1366, 768, 1, 170, 48),
            (1920, 1080, 1, 240, 67),
            (1920, 1200, 1, 240, 75),
            (2560, 1600, 2, 160, 50),
            (3840, 2160, 2, 240, 67),
            (1080, 1920, 2, 67, 60),
            (7680, 4320, 4, 240, 67),
        ];
        for (width, height, scale, columns, rows) in table {
            let mode = mode(buffer(width, height, width)).expect("valid").expect("a screen");
            assert_eq!((mode.scale, mode.columns, mode.rows), (scale, columns, rows), "{width}x{height}");
            assert!(columns <= COLUMNS_MAX && rows <= ROWS_MAX);
        }
    }

    #[test]
    fn machine_without_a_screen_has_no_mode() {
        assert_eq!(mode(FrameBuffer::default()), Ok(None));
    }

    #[test]
    fn unsupported_screens_are_refused() {
        let good = buffer(1280, 800, 1300);
        let format = |masks| (FrameBuffer { masks, ..good }, ScreenError::Format(masks));
        let size =
            |width, height, stride| (buffer(width, height, stride), ScreenError::Size(width, height, stride));
        assert!(mode(good).is_ok());
        for (buffer, error) in [
            (FrameBuffer { start: 0, len: 0, ..good }, ScreenError::NoFrameBuffer),
            (FrameBuffer { len: 0, ..good }, ScreenError::NoFrameBuffer),
            format([0; 3]),
            format([0xff, 0xff00, 0]),
            format([0xff, 0x1ff00, 0xff_0000]),
            format([0xff, 0xff00, 0xf0f0_0000]),
            size(1280, 800, 1279),
            size(319, 800, 319),
            size(1280, 159, 1280),
            size(40_000, 800, 40_000),
            (FrameBuffer { len: good.len - 1, ..good }, ScreenError::Size(1280, 800, 1300)),
            (FrameBuffer { start: 0x8000_0002, ..good }, ScreenError::Size(1280, 800, 1300)),
        ] {
            assert_eq!(mode(buffer), Err(error), "{buffer:?}");
        }
    }

    #[test]
    fn frame_buffer_beyond_the_cpus_addresses_is_refused() {
        let good = buffer(1280, 800, 1280);
        let bytes = 1280 * 800 * 4;
        let at = |start| mode(FrameBuffer { start, ..good });
        assert!(at(ADDRESS_END - bytes).is_ok());
        for start in [ADDRESS_END - bytes + 4, ADDRESS_END, 1 << 52, u64::MAX - 3] {
            assert_eq!(at(start), Err(ScreenError::Address(start, bytes)), "{start:#x}");
        }
    }

    #[test]
    fn frame_buffer_that_is_too_large_to_map_is_refused() {
        let side = 1 << 14;
        let largest = buffer(side, side, side);
        assert!(mode(largest).is_ok());
        let too_large = Err(ScreenError::TooLarge(FRAME_BUFFER_SIZE));
        assert_eq!(mode(FrameBuffer { start: largest.start + 4, ..largest }), too_large);
        let len = 4 * u64::from(SIZE_MAX) * u64::from(SIZE_MAX);
        assert_eq!(mode(buffer(SIZE_MAX, SIZE_MAX, SIZE_MAX)), Err(ScreenError::TooLarge(len)));
    }

    #[test]
    fn frame_buffer_in_memory_is_refused() {
        let good = buffer(1280, 800, 1280);
        let bytes = 1280 * 800 * 4;
        let with = |start, len| Mode::of(&good, ADDRESS_END, iter::once(Region { start, len }));
        for (start, len) in [(0, good.start), (good.start + bytes, 4096), (good.start + bytes, u64::MAX)] {
            assert!(with(start, len).is_ok(), "{start:#x} {len:#x}");
        }
        for (start, len) in [(0, good.start + 1), (good.start + bytes - 1, 4096), (good.start + 4096, 1)] {
            assert_eq!(
                with(start, len),
                Err(ScreenError::InMemory(good.start, bytes)),
                "{start:#x} {len:#x}"
            );
        }
    }

    #[test]
    fn colours_follow_the_format() {
        let with =
            |masks| mode(FrameBuffer { masks, ..buffer(640, 480, 640) }).expect("valid").expect("some");
        assert_eq!(with(RGB).pixel(Colour::Good), 0x40_e040);
        assert_eq!(with(RGB).pixel(Colour::Bad), 0x50_70ff);
        assert_eq!(with(BGR).pixel(Colour::Bad), 0xff_7050);
        // 10 bits for each colour.
        let deep = with([0x3ff0_0000, 0xf_fc00, 0x3ff]);
        assert_eq!(deep.pixel(Colour::Bad), 1023 << 20 | (0x70 * 1023 / 255) << 10 | (0x50 * 1023 / 255));
        // 5, 6 and 5 bits.
        assert_eq!(with([0xf800, 0x7e0, 0x1f]).pixel(Colour::Text), 25 << 11 | 51 << 5 | 25);
    }
}
