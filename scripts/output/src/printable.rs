//! Escapes text from a guest or a file so that it is safe to print on a terminal.

use std::fmt::Write;

/// Escapes (as `\x1b`) every character that could move a terminal's cursor, change its colours or ring its bell, and
/// every byte that is not valid UTF-8. Keeps tabs.
pub fn printable(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    // Writing to a `String` cannot fail.
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if !is_unprintable(c) {
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

/// Escapes each line of a text as [`printable`] does. Keeps newlines.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(|line| printable(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// Returns whether [`printable`] escapes the character.
pub fn is_unprintable(c: char) -> bool {
    c != '\t' && (c.is_control() || is_bidi_control(c))
}

/// Returns whether the character reorders the text around it. A program could use such a character to forge another
/// program's line.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_tabs_and_utf8_are_kept() {
        assert_eq!(printable("[cpu0] ä\tb".as_bytes()), "[cpu0] ä\tb");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable(b"\x1b[2J\x07\x7f\r"), "\\x1b[2J\\x07\\x7f\\x0d");
        assert_eq!(printable("\u{9b}2J\u{202e}".as_bytes()), "\\u{9b}2J\\u{202e}");
    }

    #[test]
    fn newlines_are_kept_in_lines() {
        assert_eq!(printable_lines("a\x1bb\r\nc\n"), "a\\x1bb\\x0d\nc\n");
    }

    #[test]
    fn invalid_utf8_is_escaped() {
        assert_eq!(printable(b"a\xff\xc3"), "a\\xff\\xc3");
    }
}
