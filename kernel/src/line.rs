//! Assembles lines from pieces, so that concurrent output of several CPUs is interleaved only at line boundaries.
#![forbid(unsafe_code)]

use core::mem::{offset_of, size_of};

use kernel_abi::counters::{LINE_MAX, LineState};

const NEWLINE: u8 = b'\n';

/// Collects up to `N` bytes of a line. Each CPU has its own buffer, so no lock is needed. The host reads it if the run
/// ends before the line is complete, so the layout is that of [`kernel_abi::counters::LineState`].
#[derive(Debug)]
#[repr(C)]
pub struct LineBuffer<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

const _: () = {
    type Buffer = LineBuffer<LINE_MAX>;
    assert!(
        offset_of!(Buffer, len) == offset_of!(LineState, length),
        "the host reads the length at another offset"
    );
    assert!(
        offset_of!(Buffer, bytes) == offset_of!(LineState, bytes),
        "the host reads the text at another offset"
    );
    assert!(size_of::<Buffer>() == size_of::<LineState>(), "the line must have no other fields");
};

impl<const N: usize> LineBuffer<N> {
    /// Creates an empty line.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N > 0, "a line must have room for a byte") };
        LineBuffer { len: 0, bytes: [0; N] }
    }

    /// Accepts bytes, passes a completed line to `emit` without its newline, and returns the number of bytes accepted.
    /// It stops before the byte that would complete a second line, so its running time is bounded. It accepts at least
    /// one byte. A line of more than `N` bytes is split into lines of `N` bytes and a shorter last line.
    pub fn push(&mut self, bytes: &[u8], emit: impl FnOnce(&[u8])) -> usize {
        let mut emit = Some(emit);
        for (taken, &byte) in bytes.iter().enumerate() {
            if byte == NEWLINE || self.len == N {
                let Some(emit) = emit.take() else { return taken };
                emit(&self.bytes[..self.len]);
                self.len = 0;
            }
            if byte != NEWLINE {
                self.bytes[self.len] = byte;
                self.len += 1;
            }
        }
        bytes.len()
    }

    /// Passes the incomplete line to `emit`, if there is one. Call it when no more bytes follow.
    pub fn flush(&mut self, mut emit: impl FnMut(&[u8])) {
        if self.len > 0 {
            emit(&self.bytes[..self.len]);
            self.len = 0;
        }
    }
}

impl<const N: usize> Default for LineBuffer<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&str]) -> Vec<String> {
        let mut buffer = LineBuffer::<4>::new();
        let mut lines = Vec::new();
        let mut emit = |line: &[u8]| lines.push(String::from_utf8(line.to_vec()).unwrap());
        for piece in pieces {
            let mut rest = piece.as_bytes();
            while !rest.is_empty() {
                let taken = buffer.push(rest, &mut emit);
                assert!(taken > 0);
                rest = &rest[taken..];
            }
        }
        buffer.flush(&mut emit);
        buffer.flush(&mut emit);
        lines
    }

    #[test]
    fn complete_lines_are_emitted() {
        let table: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["ab\n"], &["ab"]),
            (&["a", "b", "\n"], &["ab"]),
            (&["a\nb\nc"], &["a", "b", "c"]),
            (&["\n\n"], &["", ""]),
            (&["abcd\n"], &["abcd"]),
            (&["abcd"], &["abcd"]),
            (&["abcde\n"], &["abcd", "e"]),
            (&["abcdefghi", "\n"], &["abcd", "efgh", "i"]),
            (&["abcd", "\nx\n"], &["abcd", "x"]),
        ];
        for (pieces, expected) in table {
            assert_eq!(lines(pieces), *expected, "{pieces:?}");
        }
    }

    #[test]
    fn no_output_before_the_line_ends() {
        let mut buffer = LineBuffer::<4>::new();
        assert_eq!(buffer.push(b"abcd", |_| panic!("the line was emitted too early")), 4);
    }

    #[test]
    fn one_call_emits_at_most_one_line_and_accepts_a_byte() {
        let mut buffer = LineBuffer::<4>::new();
        assert_eq!(buffer.push(b"a\nb\nc", |line| assert_eq!(line, b"a")), 3);
        assert_eq!(buffer.push(b"\nc", |line| assert_eq!(line, b"b")), 2);
        assert_eq!(buffer.push(b"defgh", |line| assert_eq!(line, b"cdef")), 5);
        assert_eq!(buffer.push(b"\n\n", |line| assert_eq!(line, b"gh")), 1);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_for_any_split(text in "[ab\\n]{0,60}", cut in 0..60_usize) {
            let cut = cut.min(text.len());
            let joined = lines(&[&text]);
            prop_assert_eq!(&lines(&[&text[..cut], &text[cut..]]), &joined);
            prop_assert_eq!(joined.concat(), text.replace('\n', ""));
            prop_assert!(joined.iter().all(|line| line.len() <= 4));
        }
    }
}
