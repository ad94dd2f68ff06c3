//! Draws the cells that have changed.

use super::cells::{Cells, Colour};
use super::font;
use super::mode::Mode;

/// A frame buffer.
pub trait Pixels {
    /// Writes the same pixel to `count` places from `first` on, counted in pixels from the start of the frame buffer.
    fn fill(&mut self, first: usize, count: usize, pixel: u32);
}

/// The background.
const BLACK: u32 = 0;

/// Draws all rows that have changed, and calls `pause` after each.
pub fn changes(cells: &mut Cells, mode: &Mode, to: &mut impl Pixels, mut pause: impl FnMut()) {
    for row in 0..cells.rows() {
        if let Some(columns) = cells.changed(row) {
            // Draw complete lines from left to right, because a write-combining buffer holds adjacent bytes.
            for line in 0..font::HEIGHT * mode.scale {
                let start = (row * font::HEIGHT * mode.scale + line) * mode.stride;
                for column in columns.clone() {
                    let (character, colour) = cells.cell(row, column);
                    let bits = font::glyph(character)[line / mode.scale];
                    character_line(bits, mode, colour, start + column * font::WIDTH * mode.scale, to);
                }
            }
            cells.set_shown(row);
            pause();
        }
    }
}

/// Draws one line of pixels of a character, starting at pixel `at`.
fn character_line(bits: u8, mode: &Mode, colour: Colour, at: usize, to: &mut impl Pixels) {
    let pixel = mode.pixel(colour);
    for n in 0..font::WIDTH {
        let is_set = bits >> (font::WIDTH - 1 - n) & 1 != 0;
        to.fill(at + n * mode.scale, mode.scale, if is_set { pixel } else { BLACK });
    }
}

/// Clears the right and the lower edge of the screen, which no cell covers. Calls `pause` after each line.
pub fn edges(mode: &Mode, to: &mut impl Pixels, mut pause: impl FnMut()) {
    let (right, lower) = (mode.columns * font::WIDTH * mode.scale, mode.rows * font::HEIGHT * mode.scale);
    for line in 0..mode.height {
        let from = if line < lower { right } else { 0 };
        to.fill(line * mode.stride + from, mode.width - from, BLACK);
        pause();
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec::Vec;

    use kernel_abi::boot::FrameBuffer;

    use super::*;

    struct Memory(Vec<u32>);

    impl Pixels for Memory {
        fn fill(&mut self, first: usize, count: usize, pixel: u32) {
            self.0[first..first + count].fill(pixel);
        }
    }

    const OLD: u32 = 0x1234_5678;

    fn screen(width: u32, height: u32, stride: u32) -> (Box<Cells>, Mode, Memory) {
        let len = u64::from(stride * height * 4);
        let masks = [0xff, 0xff00, 0xff_0000];
        let buffer = FrameBuffer { start: 0x8000_0000, len, width, height, stride, masks };
        let mode = Mode::of(&buffer, u64::MAX, core::iter::empty()).expect("valid").expect("a screen");
        let mut cells = Box::new(Cells::new());
        cells.set_size(mode.columns, mode.rows);
        let memory = Memory(std::vec![OLD; mode.pixels()]);
        (cells, mode, memory)
    }

    /// Checks each visible pixel against the font.
    fn check(cells: &Cells, mode: &Mode, memory: &Memory) {
        for y in 0..mode.height {
            for x in 0..mode.stride {
                let (column, row) = (x / (8 * mode.scale), y / (16 * mode.scale));
                let found = memory.0[y * mode.stride + x];
                let expected = match (x < mode.width, column < mode.columns && row < mode.rows) {
                    (false, _) => OLD,
                    (true, false) => BLACK,
                    (true, true) => {
                        let (character, colour) = cells.cell(row, column);
                        let line = font::glyph(character)[y / mode.scale % 16];
                        let is_set = line >> (7 - x / mode.scale % 8) & 1 != 0;
                        if is_set { mode.pixel(colour) } else { BLACK }
                    }
                };
                assert_eq!(found, expected, "pixel {x}, line {y}");
            }
        }
    }

    #[test]
    fn every_pixel_is_the_fonts() {
        for (width, height, stride) in [(645, 485, 650), (2001, 345, 2001)] {
            let (mut cells, mode, mut memory) = screen(width, height, stride);
            cells.add(b"The first line: {|}~", Colour::Text);
            cells.add(b"The second line", Colour::Bad);
            let mut pauses = 0;
            edges(&mode, &mut memory, || ());
            changes(&mut cells, &mode, &mut memory, || pauses += 1);
            assert_eq!(pauses, mode.rows);
            check(&cells, &mode, &memory);
            for n in 0..2 * mode.rows {
                cells.add(format!("line {n}").as_bytes(), Colour::Text);
                changes(&mut cells, &mode, &mut memory, || ());
            }
            check(&cells, &mode, &memory);
            changes(&mut cells, &mode, &mut memory, || panic!("a row was drawn twice"));
        }
    }
}
