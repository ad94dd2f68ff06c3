//! The text of the screen, in cells of one character, and the text that the frame buffer shows.

use core::ops::Range;

/// The highest number of columns and rows. A screen with more pixels gets larger characters.
pub const COLUMNS_MAX: usize = 240;
/// See [`COLUMNS_MAX`].
pub const ROWS_MAX: usize = 75;

/// The colour of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Colour {
    /// All other text.
    #[default]
    Text,
    /// A passed run.
    Good,
    /// A failure or a warning.
    Bad,
}

/// A row of text.
#[derive(Clone, Copy)]
struct Row {
    /// The characters; 0 is a blank.
    text: [u8; COLUMNS_MAX],
    colour: Colour,
}

/// All bytes are 0, so that the cells take no room in the kernel's file.
const BLANK: Row = Row { text: [0; COLUMNS_MAX], colour: Colour::Text };

/// The text of the screen.
///
/// Adding a line changes the text immediately. The frame buffer is updated later, row by row, so that a CPU can handle
/// interrupts between two rows: [`changed`](Self::changed) returns the columns to draw, and
/// [`set_shown`](Self::set_shown) is called after they are drawn. Only characters that differ are drawn.
pub struct Cells {
    wanted: [Row; ROWS_MAX],
    /// The text that the frame buffer shows. The value 0 means that the character is unknown.
    shown: [Row; ROWS_MAX],
    columns: usize,
    rows: usize,
    /// The number of rows that have text. The next line begins in the row after them.
    used: usize,
}

impl Cells {
    /// Creates cells without a screen, which ignore all lines.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "this must be a `const` function")]
    pub const fn new() -> Cells {
        Cells { wanted: [BLANK; ROWS_MAX], shown: [BLANK; ROWS_MAX], columns: 0, rows: 0, used: 0 }
    }

    /// Sets the size of the screen. Both numbers are limited to the maximum. The text is discarded, and the contents of
    /// the frame buffer become unknown.
    pub fn set_size(&mut self, columns: usize, rows: usize) {
        self.wanted = [BLANK; ROWS_MAX];
        (self.columns, self.rows, self.used) = (columns.min(COLUMNS_MAX), rows.min(ROWS_MAX), 0);
        self.forget_shown();
    }

    /// Marks the contents of the frame buffer as unknown, so that the complete screen is drawn again. Called if a CPU
    /// has stopped while it was drawing.
    pub fn forget_shown(&mut self) {
        self.shown = [BLANK; ROWS_MAX];
    }

    /// Returns the number of rows of the screen.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds text, which begins in the first column and may contain line breaks. A line that is too long is continued in
    /// the next row.
    pub fn add(&mut self, text: &[u8], colour: Colour) {
        if self.columns == 0 || self.rows == 0 {
            return;
        }
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for line in text.split(|&byte| byte == b'\n') {
            self.begin_row(colour);
            let mut column = 0;
            for &byte in line {
                let width = match byte {
                    b'\t' => 8 - column % 8,
                    // The continuation bytes of a UTF-8 character take no cell, because the font has only ASCII
                    // characters.
                    b'\r' | 0x80..=0xbf => 0,
                    _ => 1,
                };
                for _ in 0..width {
                    if column == self.columns {
                        self.begin_row(colour);
                        column = 0;
                    }
                    let character = if byte == b'\t' { b' ' } else { byte.max(1) };
                    self.wanted[self.used - 1].text[column] = character;
                    column += 1;
                }
            }
        }
    }

    /// Begins a blank row after the last one. If the screen is full, it scrolls by an eighth of its height: scrolling
    /// redraws most of the screen, so a step of several rows costs less per line.
    fn begin_row(&mut self, colour: Colour) {
        if self.used == self.rows {
            let step = (self.rows / 8).max(1);
            self.wanted.copy_within(step..self.rows, 0);
            self.wanted[self.rows - step..self.rows].fill(BLANK);
            self.used -= step;
        }
        self.wanted[self.used] = Row { colour, ..BLANK };
        self.used += 1;
    }

    /// Returns the columns of a row that must be drawn, or `None` if the frame buffer shows the row correctly, or if
    /// the row is beyond the screen.
    #[must_use]
    pub fn changed(&self, row: usize) -> Option<Range<usize>> {
        let (wanted, shown) = (self.wanted[..self.rows].get(row)?, &self.shown[row]);
        let differs = |column: &usize| {
            let (wanted_character, character) = (visible(wanted.text[*column]), shown.text[*column]);
            wanted_character != character || wanted.colour != shown.colour && character != b' '
        };
        let first = (0..self.columns).find(differs)?;
        let last = (0..self.columns).rfind(differs)?;
        Some(first..last + 1)
    }

    /// Records that the frame buffer shows a row correctly.
    pub fn set_shown(&mut self, row: usize) {
        self.shown[row].text = self.wanted[row].text.map(visible);
        self.shown[row].colour = self.wanted[row].colour;
    }

    /// Returns the character in a cell, and its colour.
    #[must_use]
    pub fn cell(&self, row: usize, column: usize) -> (u8, Colour) {
        (visible(self.wanted[row].text[column]), self.wanted[row].colour)
    }
}

/// Returns the character that is drawn for a cell.
const fn visible(character: u8) -> u8 {
    if character == 0 { b' ' } else { character }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn cells(columns: usize, rows: usize) -> Box<Cells> {
        let mut cells = Box::new(Cells::new());
        cells.set_size(columns, rows);
        cells
    }

    /// Returns the rows as text, without blanks at their ends.
    fn text(cells: &Cells) -> Vec<String> {
        let row = |row| (0..cells.columns).map(|column| char::from(cells.cell(row, column).0)).collect();
        (0..cells.rows)
            .map(|n| {
                let row: String = row(n);
                row.trim_end().to_owned()
            })
            .collect()
    }

    fn show(cells: &mut Cells) {
        (0..cells.rows).for_each(|row| cells.set_shown(row));
    }

    #[test]
    fn lines_follow_each_other_and_wrap() {
        let mut cells = cells(10, 6);
        cells.add(b"one\n", Colour::Text);
        cells.add(b"0123456789\n", Colour::Text);
        cells.add(b"0123456789ab\n", Colour::Text);
        cells.add(b"\n", Colour::Text);
        cells.add(b"x\ty\r\x1b", Colour::Text);
        assert_eq!(text(&cells), ["one", "0123456789", "0123456789", "ab", "", "x       y\x1b"]);
    }

    #[test]
    fn text_with_line_breaks_takes_several_rows() {
        let mut cells = cells(10, 4);
        cells.add(b"a\n\nb", Colour::Text);
        cells.add("é€\0".as_bytes(), Colour::Text);
        assert_eq!(text(&cells), ["a", "", "b", "\u{c3}\u{e2}\u{1}"]);
    }

    #[test]
    fn full_screen_scrolls_by_an_eighth() {
        let mut cells = cells(10, 16);
        (0..16).for_each(|n| cells.add(format!("{n}").as_bytes(), Colour::Text));
        assert_eq!(text(&cells)[15], "15");
        cells.add(b"new", Colour::Text);
        let rows = text(&cells);
        assert_eq!((&*rows[0], &*rows[13], &*rows[14], &*rows[15]), ("2", "15", "new", ""));
    }

    #[test]
    fn only_what_differs_is_drawn() {
        let mut cells = cells(10, 4);
        assert_eq!(cells.changed(0), Some(0..10), "what the firmware has drawn must be overwritten");
        show(&mut cells);
        assert_eq!((0..5).find_map(|row| cells.changed(row)), None);
        cells.add(b"a b", Colour::Text);
        assert_eq!((cells.changed(0), cells.changed(1)), (Some(0..3), None));
        show(&mut cells);
        cells.add(b"x", Colour::Bad);
        assert_eq!((cells.changed(0), cells.changed(1)), (None, Some(0..1)));
        show(&mut cells);
        cells.forget_shown();
        assert_eq!(cells.changed(3), Some(0..10));
    }

    #[test]
    fn row_of_another_colour_is_drawn_again() {
        let mut cells = cells(10, 2);
        cells.add(b"ab", Colour::Text);
        cells.add(b"ab", Colour::Bad);
        show(&mut cells);
        // The second row moves to the first.
        cells.add(b"c", Colour::Text);
        assert_eq!(text(&cells), ["ab", "c"]);
        assert_eq!((cells.changed(0), cells.changed(1)), (Some(0..2), Some(0..2)));
    }

    #[test]
    fn cells_without_a_screen_ignore_lines() {
        let mut cells = Box::new(Cells::new());
        cells.add(b"a\n", Colour::Text);
        assert_eq!(cells.changed(0), None);
        cells.set_size(1000, 1000);
        (0..200).for_each(|_| cells.add(&[b'x'; 300], Colour::Text));
        assert_eq!(cells.changed(ROWS_MAX - 1), Some(0..COLUMNS_MAX));
    }
}
