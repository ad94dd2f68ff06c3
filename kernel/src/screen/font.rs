//! The font: the printable ASCII characters of Spleen 8x16 (BSD 2-Clause, crate `spleen-font`).
//!
//! The crate's parser (0.2.0) confuses the mode and the height of a PSF file of version 1, so this module parses the
//! file itself.

use spleen_font::FONT_8X16 as FILE;

/// Width of a character, in pixels.
pub const WIDTH: usize = 8;
/// Height of a character, in pixels.
pub const HEIGHT: usize = 16;

/// The first character of the font, which has the printable characters of ASCII.
pub const FIRST: u8 = b' ';
/// The last character of the font.
pub const LAST: u8 = b'~';
const COUNT: usize = (LAST - FIRST + 1) as usize;

/// The bitmaps. Only the bitmaps are in the kernel's image; the font's file also has other characters and a Unicode
/// table. In a byte, the most significant bit is the leftmost pixel.
static GLYPHS: [[u8; HEIGHT]; COUNT] = {
    /// Length of the file's header (PSF version 1): a magic number, the mode, and the height. All characters are 8
    /// pixels wide.
    const HEADER: usize = 4;
    assert!(FILE[0] == 0x36 && FILE[1] == 0x04, "the font is not a PSF file of version 1");
    assert!(FILE[3] as usize == HEIGHT, "the font has another height");
    let mut glyphs = [[0; HEIGHT]; COUNT];
    let mut index = 0;
    while index < COUNT {
        let mut line = 0;
        while line < HEIGHT {
            // The file has the ASCII characters at their codes.
            glyphs[index][line] = FILE[HEADER + (FIRST as usize + index) * HEIGHT + line];
            line += 1;
        }
        index += 1;
    }
    glyphs
};

/// Returns the bitmap of a character. A character that the font lacks is shown as a question mark.
#[must_use]
pub fn glyph(character: u8) -> &'static [u8; HEIGHT] {
    let known = if matches!(character, FIRST..=LAST) { character } else { b'?' };
    &GLYPHS[usize::from(known - FIRST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file's table has, for each bitmap, the characters (UTF-16) that it represents, and ends each list with
    /// 0xffff.
    #[test]
    fn file_has_the_ascii_characters_at_their_codes() {
        const BITMAPS: usize = 512;
        assert_eq!(FILE[2] & 3, 3, "the file must have 512 bitmaps and a table");
        let table: std::vec::Vec<u16> = FILE[4 + BITMAPS * HEIGHT..]
            .chunks_exact(2)
            .map(|word| u16::from_le_bytes([word[0], word[1]]))
            .collect();
        let lists: std::vec::Vec<_> = table.split(|&word| word == 0xffff).collect();
        for character in FIRST..=LAST {
            assert!(lists[usize::from(character)].contains(&character.into()), "{:?}", char::from(character));
        }
    }

    #[test]
    fn bitmaps_are_upright() {
        assert!(glyph(b' ').iter().all(|&line| line == 0));
        // The stroke of an L is on the left, and its foot is below.
        let l = glyph(b'L');
        assert!(l.iter().filter(|&&line| line != 0).all(|&line| line & 0xe0 != 0), "{l:x?}");
        let (first, last) = (l.iter().find(|&&line| line != 0), l.iter().rfind(|&&line| line != 0));
        assert!(first.map(|line| line.count_ones()) < last.map(|line| line.count_ones()), "{l:x?}");
    }

    #[test]
    fn other_characters_are_question_marks() {
        for character in [0, 31, 127, 128, 255] {
            assert_eq!(glyph(character), glyph(b'?'));
        }
    }
}
