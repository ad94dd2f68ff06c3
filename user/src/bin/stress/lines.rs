//! The lines that the kind `write` writes. Each line is a function of the seed, the CPU and the line's number, so the
//! host tool can compute the expected lines and compare.
//!
//! Line `n` (counted from 0) on CPU `k` is as follows, with `k` and `n` in decimal:
//!
//! ```text
//! w k n PAYLOAD
//! ```
//!
//! With `h = splitmix64(seed ^ (k << 32) ^ n)` the payload is `1 + h % 100` characters long: the 16 lower-case
//! hexadecimal digits of `h`, leading zeros included, repeated and then truncated. `splitmix64(x)` is the first output
//! of the SplitMix64 generator in state `x`. Modulo 2^64, with `z = x + 0x9e3779b97f4a7c15`, then `z = (z ^ (z >> 30))
//! * 0xbf58476d1ce4e5b9`, then `z = (z ^ (z >> 27)) * 0x94d049bb133111eb`, it is `z ^ (z >> 31)`.

use core::fmt::{self, Write};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Length of the longest payload.
const PAYLOAD_MAX: u64 = 100;
/// `w `, two numbers of up to 20 digits with a space after each, the payload, and the newline.
const LINE_MAX: usize = 2 + 21 + 21 + PAYLOAD_MAX as usize + 1;
/// Number of lines generated at a time. Together they may be longer than one call accepts.
const BATCH: usize = 3;

/// Returns the first output of splitmix64 in state `x`.
pub fn splitmix64(x: u64) -> u64 {
    SplitMix64::seed_from_u64(x).next_u64()
}

/// This CPU's lines, and how much of them has been written.
pub struct Lines {
    seed: u64,
    cpu: u64,
    /// Number of the first line that is not yet in `text`.
    next: u64,
    /// Number of lines written completely, including the newline.
    done: u64,
    text: [u8; BATCH * LINE_MAX],
    written: usize,
    len: usize,
}

impl Lines {
    /// Starts at line 0.
    pub fn new(seed: u64, cpu: u64) -> Lines {
        Lines { seed, cpu, next: 0, done: 0, text: [0; BATCH * LINE_MAX], written: 0, len: 0 }
    }

    /// Returns the number of complete lines written.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Returns the bytes to write next: usually a few, sometimes all that have been generated. Never empty.
    pub fn piece(&mut self, random: u64) -> &[u8] {
        if self.written == self.len {
            self.refill();
        }
        let rest = &self.text[self.written..self.len];
        let few = 1 + (random >> 8) as usize % 32;
        if random.is_multiple_of(16) { rest } else { &rest[..few.min(rest.len())] }
    }

    /// Returns the unwritten rest of a partially written line, which is empty at a line boundary.
    pub fn rest_of_line(&self) -> &[u8] {
        let (before, rest) = self.text[..self.len].split_at(self.written);
        match (before.last(), rest.iter().position(|&byte| byte == b'\n')) {
            (None | Some(b'\n'), _) | (_, None) => &[],
            (_, Some(end)) => &rest[..=end],
        }
    }

    /// Records that the call accepted `count` bytes. `count` must not exceed the number of unwritten bytes.
    pub fn accepted(&mut self, count: usize) {
        let bytes = &self.text[self.written..self.written + count];
        self.done += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.written += count;
    }

    fn refill(&mut self) {
        (self.written, self.len) = (0, 0);
        for _ in 0..BATCH {
            let line = Line { seed: self.seed, cpu: self.cpu, number: self.next };
            let mut out = Tail { text: &mut self.text, len: &mut self.len };
            // The write cannot fail: `text` has room for BATCH lines of maximum length.
            let _ = writeln!(out, "{line}");
            self.next += 1;
        }
    }
}

/// One line without its newline.
struct Line {
    seed: u64,
    cpu: u64,
    number: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let hash = splitmix64(self.seed ^ (self.cpu << 32) ^ self.number);
        write!(f, "w {} {} ", self.cpu, self.number)?;
        (0..=hash % PAYLOAD_MAX).try_for_each(|place| {
            let nibble = (hash >> (60 - place % 16 * 4)) & 0xf;
            f.write_char(DIGITS[nibble as usize].into())
        })
    }
}

/// Appends text after the first `len` bytes of a buffer.
struct Tail<'a> {
    text: &'a mut [u8],
    len: &'a mut usize,
}

impl Write for Tail<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = *self.len + text.len();
        self.text.get_mut(*self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        *self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seed: u64, cpu: u64, number: u64) -> String {
        Line { seed, cpu, number }.to_string()
    }

    #[test]
    fn lines_follow_the_definition() {
        let by_hand = |x: u64| {
            let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        for (seed, cpu, number) in [(1, 0, 0), (1, 3, 12), (u64::MAX, 255, 1 << 40), (0, 0, u64::MAX)] {
            let h = by_hand(seed ^ (cpu << 32) ^ number);
            let payload = format!("{h:016x}").repeat(7);
            let length = 1 + (h % 100) as usize;
            assert_eq!(line(seed, cpu, number), format!("w {cpu} {number} {}", &payload[..length]));
        }
    }

    /// Known values. The host tool's implementation is tested against the same values.
    #[test]
    fn lines_have_known_values() {
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(1), 0x910a_2dec_8902_5cc1);
        // 0x910a2dec89025cc1 % 100 = 65.
        assert_eq!(
            line(1, 0, 0),
            format!(
                "w 0 0 {}",
                &"910a2dec89025cc1".repeat(6)[..1 + 0x910a_2dec_8902_5cc1_u64 as usize % 100]
            )
        );
    }

    #[test]
    fn the_longest_lines_fit() {
        // Payload lengths vary with the number. The test checks that no line is lost.
        let mut lines = Lines::new(5, u64::MAX);
        lines.next = u64::MAX - 10;
        lines.refill();
        assert_eq!(lines.text[..lines.len].iter().filter(|&&byte| byte == b'\n').count(), BATCH);
    }

    #[test]
    fn pieces_join_to_the_lines() {
        let mut lines = Lines::new(9, 2);
        let mut text = Vec::new();
        for n in 0..2000_u64 {
            let piece = lines.piece(splitmix64(n));
            assert!(!piece.is_empty());
            // Sometimes the call accepts only a part.
            let accepted = if n % 7 == 0 { piece.len().div_ceil(2) } else { piece.len() };
            text.extend_from_slice(&piece[..accepted]);
            lines.accepted(accepted);
        }
        let rest = lines.rest_of_line().to_vec();
        lines.accepted(rest.len());
        text.extend(rest);
        assert!(lines.rest_of_line().is_empty());
        let text = String::from_utf8(text).unwrap();
        assert!(text.ends_with('\n'));
        assert_eq!(text.lines().count() as u64, lines.done());
        for (number, found) in text.lines().enumerate() {
            assert_eq!(found, line(9, 2, number as u64));
        }
    }

    #[test]
    fn generated_lines_are_not_partially_written() {
        let mut lines = Lines::new(9, 2);
        assert!(lines.rest_of_line().is_empty());
        lines.piece(1);
        assert!(
            lines.rest_of_line().is_empty(),
            "a line that was generated but not written does not count as partially written"
        );
    }
}
