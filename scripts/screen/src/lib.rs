//! Reads the kernel's text from a picture of a machine's screen (PPM), such as QEMU's command `screendump` writes.
//!
//! Each cell of the picture must be, pixel by pixel, a character of the font in one colour on black. Everything else is
//! an error, so a text that was read is a text that a person could read.
//!
//! This crate is separate from the host tool, whose tests build and start it when there is a picture to read.
#![forbid(unsafe_code)]

use std::fmt;

use spleen_font::FONT_8X16 as FONT;

/// Size of a character of the font in pixels.
const WIDTH: usize = 8;
const HEIGHT: usize = 16;
/// The length of the font's header (PSF version 1). The bitmaps follow, the ASCII characters at their codes.
const HEADER: usize = 4;

/// The highest number of columns and rows. The kernel enlarges the characters of a screen that has room for more.
const COLUMNS_MAX: usize = 240;
/// See [`COLUMNS_MAX`].
const ROWS_MAX: usize = 75;

/// The reason why a picture has no text of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScreenError {
    /// The file is not a PPM file with 8 bits for each colour, or it is truncated.
    NotPpm,
    /// A cell is not a character: its row, its column, and its bitmap as text.
    Character(usize, usize, String),
    /// A cell has several colours: its row and its column.
    Colours(usize, usize),
    /// A row has several colours: its number.
    Row(usize),
    /// A pixel outside the cells is not black: its line and its place in the line.
    Edge(usize, usize),
}

impl fmt::Display for ScreenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScreenError::NotPpm => {
                f.write_str("the file is not a complete PPM file with 8 bits for each colour")
            }
            ScreenError::Character(row, column, bitmap) => {
                write!(f, "row {row}, column {column}: not a character of the font:\n{bitmap}")
            }
            ScreenError::Colours(row, column) => write!(f, "row {row}, column {column}: several colours"),
            ScreenError::Row(row) => write!(f, "row {row} has several colours"),
            ScreenError::Edge(line, place) => write!(f, "line {line}, pixel {place}: not black"),
        }
    }
}

impl std::error::Error for ScreenError {}

/// A pixel: red, green and blue.
pub type Pixel = [u8; 3];

const BLACK: Pixel = [0; 3];

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<Pixel>,
}

impl Picture {
    /// Parses a PPM file (binary, `P6`).
    ///
    /// # Errors
    /// [`ScreenError::NotPpm`].
    pub fn parse(file: &[u8]) -> Result<Picture, ScreenError> {
        let mut rest = file;
        let mut word = || {
            let len = rest.iter().position(u8::is_ascii_whitespace)?;
            let (word, after) = rest.split_at(len);
            rest = after.get(1..)?;
            std::str::from_utf8(word).ok()
        };
        let kind = word().ok_or(ScreenError::NotPpm)?;
        let mut number = || word().and_then(|word| word.parse::<usize>().ok()).ok_or(ScreenError::NotPpm);
        let (width, height, max) = (number()?, number()?, number()?);
        let len = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if kind != "P6" || max != 255 || width == 0 || height == 0 || len != Some(rest.len()) {
            return Err(ScreenError::NotPpm);
        }
        let pixels = rest.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Ok(Picture { width, height, pixels })
    }

    fn pixel(&self, x: usize, y: usize) -> Pixel {
        self.pixels[y * self.width + x]
    }

    /// Returns the number of pixels, in each direction, for a pixel of the font.
    fn scale(&self) -> usize {
        self.width.div_ceil(COLUMNS_MAX * WIDTH).max(self.height.div_ceil(ROWS_MAX * HEIGHT))
    }
}

/// A row of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The text, without blanks at its end.
    pub text: String,
    /// Its colour; black if the row is blank.
    pub colour: Pixel,
}

/// Reads all rows.
///
/// # Errors
/// [`ScreenError`].
pub fn read(picture: &Picture) -> Result<Vec<Row>, ScreenError> {
    let scale = picture.scale();
    let (width, height) = (WIDTH * scale, HEIGHT * scale);
    let (columns, rows) = (picture.width / width, picture.height / height);
    for y in 0..picture.height {
        let from = if y < rows * height { columns * width } else { 0 };
        if let Some(x) = (from..picture.width).find(|&x| picture.pixel(x, y) != BLACK) {
            return Err(ScreenError::Edge(y, x));
        }
    }
    (0..rows).map(|row| read_row(picture, row, columns, scale)).collect()
}

fn read_row(picture: &Picture, row: usize, columns: usize, scale: usize) -> Result<Row, ScreenError> {
    let mut text = String::new();
    let mut colour = BLACK;
    for column in 0..columns {
        let (bitmap, of_cell) = bitmap(picture, row, column, scale)?;
        if of_cell != BLACK {
            if colour != BLACK && colour != of_cell {
                return Err(ScreenError::Row(row));
            }
            colour = of_cell;
        }
        let is_drawn = |character: &u8| glyph(*character) == bitmap;
        let character = (b' '..=b'~').find(is_drawn);
        let unknown = || ScreenError::Character(row, column, as_text(&bitmap));
        text.push(character.ok_or_else(unknown)?.into());
    }
    Ok(Row { text: text.trim_end().to_owned(), colour })
}

/// Returns the bitmap of a cell, with the leftmost pixel in the most significant bit, and its colour.
fn bitmap(
    picture: &Picture,
    row: usize,
    column: usize,
    scale: usize,
) -> Result<([u8; HEIGHT], Pixel), ScreenError> {
    let mut bitmap = [0; HEIGHT];
    let mut colour = BLACK;
    for y in 0..HEIGHT * scale {
        for x in 0..WIDTH * scale {
            let pixel = picture.pixel(column * WIDTH * scale + x, row * HEIGHT * scale + y);
            let (bit, line) = (0x80 >> (x / scale), &mut bitmap[y / scale]);
            let is_first = x % scale == 0 && y % scale == 0;
            // All pixels that represent one pixel of the font must be equal.
            let is_same = is_first || (*line & bit != 0) == (pixel != BLACK);
            if pixel != BLACK && is_first {
                *line |= bit;
            }
            if !is_same || pixel != BLACK && colour != BLACK && colour != pixel {
                return Err(ScreenError::Colours(row, column));
            }
            if pixel != BLACK {
                colour = pixel;
            }
        }
    }
    Ok((bitmap, colour))
}

/// Returns the bitmap of a character of the font.
fn glyph(character: u8) -> &'static [u8] {
    let at = HEADER + usize::from(character) * HEIGHT;
    &FONT[at..at + HEIGHT]
}

fn as_text(bitmap: &[u8; HEIGHT]) -> String {
    let line = |bits: &u8| (0..WIDTH).map(|n| if bits >> (7 - n) & 1 != 0 { '#' } else { '.' }).collect();
    bitmap.iter().map(line).collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests;
