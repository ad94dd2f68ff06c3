//! Generates the numbered lines that the program writes, so that each received line can be compared byte by byte. They
//! are defined in `user/src/bin/stress/lines.rs`.
//!
//! The definition is deliberately implemented twice, in the program and here: the implementations check each other.

use super::seeds::Seed;

/// The longest payload, in bytes.
const PAYLOAD_MAX: u64 = 100;

/// Returns the first output of the splitmix64 generator with state `x`.
pub fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns a CPU's line `number`, counted from 0, without the newline.
pub fn line(seed: Seed, cpu: u32, number: u64) -> String {
    let hash = splitmix64(seed.0 ^ (u64::from(cpu) << 32) ^ number);
    // At most 100.
    let length = 1 + (hash % PAYLOAD_MAX) as usize;
    let mut payload = format!("{hash:016x}").repeat(length.div_ceil(16));
    payload.truncate(length);
    format!("w {cpu} {number} {payload}")
}

/// Parses the number of a line.
pub fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.strip_prefix("w ")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines computed independently of this code, from the text of the definition.
    const TABLE: [(u64, u32, u64, &str); 8] = [
        (1, 0, 0, "w 0 0 910a2dec89025cc1910a2dec89025cc1910a2dec89025cc1910a2dec89025cc191"),
        (1, 0, 1, "w 0 1 e220a8397b1dcdafe220a8397b1dcdafe220"),
        (1, 3, 12, "w 3 12 128982d2d48474f6128982d2d48474f6128982d2d48474f"),
        (0, 0, 0, "w 0 0 e220a8397b1dcdafe220a8397b1dcdafe220"),
        (
            42,
            1,
            57,
            "w 1 57 77ca0b910038440b77ca0b910038440b77ca0b910038440b77ca0b910038440b77ca0b910038440b77ca0b91",
        ),
        (
            0xdead_beef,
            7,
            0x1_86a0,
            "w 7 100000 0ecec24c1c99754a0ecec24c1c99754a0ecec24c1c99754a0ecec24c1c99754",
        ),
        (
            0xffff_ffff_ffff_ffff,
            255,
            0x100_0000_0000,
            "w 255 1099511627776 2ffaccb55620a0d32ffaccb55620a0d32ffaccb55620a0d32ffaccb55620a0d32ffaccb5",
        ),
        (
            0x1234_5678_9abc_def0,
            2,
            3,
            "w 2 3 d33f81d36def3626d33f81d36def3626d33f81d36def3626d33f81d36def3626d33f81d36def3626d33f81d36def362",
        ),
    ];

    #[test]
    fn lines_match_definition() {
        for (seed, cpu, number, expected) in TABLE {
            assert_eq!(line(Seed(seed), cpu, number), expected);
        }
    }

    #[test]
    fn splitmix64_matches_known_outputs() {
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(1), 0x910a_2dec_8902_5cc1);
    }

    #[test]
    fn every_length_from_1_to_100_occurs() {
        let lengths: std::collections::BTreeSet<_> =
            (0..5000).map(|number| line(Seed(3), 1, number).len() - format!("w 1 {number} ").len()).collect();
        assert!(lengths.into_iter().eq(1..=100));
    }

    #[test]
    fn number_is_parsed_from_line() {
        assert_eq!(number(b"w 3 57 ab"), Some(57));
        assert_eq!(number(b"w 3"), None);
        assert_eq!(number(b"w 3 x ab"), None);
        assert_eq!(number(b"stress: 3 57"), None);
        assert_eq!(number(b"w \xff 57 ab"), None);
    }
}
