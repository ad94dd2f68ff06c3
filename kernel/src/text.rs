//! A fixed-size text buffer, for formatting without a heap.
#![forbid(unsafe_code)]

use core::fmt;

/// At most `N` bytes of text. Longer text is truncated at a character boundary.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// Creates an empty text.
    #[must_use]
    pub const fn new() -> Self {
        Text { bytes: [0; N], len: 0 }
    }

    /// Formats into a new buffer.
    #[must_use]
    pub fn of(arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self::new();
        // An error means that the text was truncated, which is allowed.
        let _ = fmt::write(&mut text, arguments);
        text
    }

    /// Returns the text written so far.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = text.floor_char_boundary(N - self.len);
        self.bytes[self.len..self.len + room].copy_from_slice(&text.as_bytes()[..room]);
        self.len += room;
        if room == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_truncated_at_a_character_boundary() {
        assert_eq!(Text::<8>::of(format_args!("a{}c", 1)).as_str(), "a1c");
        assert_eq!(Text::<4>::of(format_args!("abcdef")).as_str(), "abcd");
        assert_eq!(Text::<4>::of(format_args!("abcé")).as_str(), "abc");
        assert_eq!(Text::<4>::of(format_args!("ab{}", "cdef")).as_str(), "abcd");
    }
}
