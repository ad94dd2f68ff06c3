//! Console bytes, made fit for a terminal.

use std::fmt::Write;

/// The line with everything that could move a terminal's cursor, change its colours or ring its bell
/// written out as `\x1b`. Tabs stay; bytes that are no UTF-8 are written out too.
pub fn printable(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    // Writing to a `String` cannot fail.
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\t' || !(c.is_control() || is_bidi_control(c)) {
                text.push(c);
            } else if c.is_ascii() {
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            } else {
                let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Characters that reorder what stands around them: a program could make its line look like another's.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_tabs_and_utf8_stay() {
        assert_eq!(printable("[cpu0] ä\tb".as_bytes()), "[cpu0] ä\tb");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable(b"\x1b[2J\x07\x7f\r"), "\\x1b[2J\\x07\\x7f\\x0d");
        assert_eq!(printable("\u{9b}2J\u{202e}".as_bytes()), "\\u{9b}2J\\u{202e}");
    }

    #[test]
    fn bytes_that_are_no_utf8_are_written_out() {
        assert_eq!(printable(b"a\xff\xc3"), "a\\xff\\xc3");
    }
}
