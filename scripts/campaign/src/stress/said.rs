//! What a copy of the program says on the console besides its numbered lines.

use kernel_abi::syscall::TABLE_LEN;

use super::seeds::Seed;

/// How often each system call was made, by number; the last counts the numbers beyond the table.
pub type Counts = [u64; TABLE_LEN + 1];

/// Before what a copy found wrong.
const VIOLATION: &str = "stress: VIOLATION ";

/// The last line of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The seed that it got.
    pub seed: Seed,
    /// Calls of the mix.
    pub calls: u64,
    /// Whole lines written.
    pub lines: u64,
    /// Every system call that it made.
    pub counts: Counts,
}

/// A console line, by who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// One of the numbered lines, or what looks like one.
    Written,
    /// What the copy found wrong.
    Violation(String),
    /// The copy's last line.
    Last(Last),
    /// Another line of the program's: its arguments make no sense, or its last line is garbled.
    Program(String),
    /// The kernel's own.
    Kernel,
    /// Nobody writes such lines.
    Nobody,
}

/// Parts a console line into the CPU that stands before it, and the rest.
pub fn split(line: &[u8]) -> Option<(u32, &[u8])> {
    let rest = line.strip_prefix(b"[cpu")?;
    let end = rest.iter().position(|&byte| byte == b']')?;
    let cpu = std::str::from_utf8(&rest[..end]).ok()?;
    let cpu = cpu.bytes().all(|byte| byte.is_ascii_digit()).then(|| cpu.parse().ok())??;
    Some((cpu, rest[end + 1..].strip_prefix(b" ")?))
}

/// What the text behind the prefix is.
pub fn read(text: &[u8]) -> Said {
    let words = String::from_utf8_lossy(text);
    // Where a line was begun when the copy found something wrong, and it does not know that, the two are one.
    if let Some((_, violation)) = words.split_once(VIOLATION) {
        return Said::Violation(violation.to_owned());
    }
    if words.starts_with("w ") {
        return Said::Written;
    }
    if words.starts_with("ringside: ") {
        return Said::Kernel;
    }
    match last(&words) {
        Some(last) => Said::Last(last),
        None if words.starts_with("stress: ") || words.starts_with("usage: stress ") => {
            Said::Program(words.into_owned())
        }
        None => Said::Nobody,
    }
}

/// `stress: seed=0xX calls=N lines=L counts=C0,..,C15,OTHER`, all of it and nothing else.
fn last(text: &str) -> Option<Last> {
    let mut words = text.strip_prefix("stress: ")?.split(' ');
    let mut field = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
    let seed = field("seed")?.parse().ok()?;
    let calls = field("calls")?.parse().ok()?;
    let lines = field("lines")?.parse().ok()?;
    let mut numbers = field("counts")?.split(',');
    let mut counts = [0; TABLE_LEN + 1];
    for count in &mut counts {
        *count = numbers.next()?.parse().ok()?;
    }
    let rest = numbers.next().is_some() || words.next().is_some();
    (!rest).then_some(Last { seed, calls, lines, counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: &str = "stress: seed=0xab calls=5 lines=2 counts=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,99";

    #[test]
    fn the_prefix_names_the_cpu() {
        assert_eq!(split(b"[cpu12] w 12 0 a"), Some((12, b"w 12 0 a".as_slice())));
        for line in ["w 1 0 a", "[cpu] x", "[cpu?] x", "[cpu+1] x", "[cpu1]x", "[cpu1", " [cpu1] x", ""] {
            assert_eq!(split(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_last_line_is_read_whole_or_not_at_all() {
        let counts = std::array::from_fn(|n| if n == TABLE_LEN { 99 } else { n as u64 });
        assert_eq!(read(LAST.as_bytes()), Said::Last(Last { seed: Seed(0xab), calls: 5, lines: 2, counts }));
        for garbled in [
            &LAST[..LAST.len() - 3],
            &format!("{LAST},1"),
            &format!("{LAST} x"),
            &LAST.replace("lines=2 ", ""),
        ] {
            assert_eq!(read(garbled.as_bytes()), Said::Program(garbled.to_owned()));
        }
    }

    #[test]
    fn a_violation_counts_in_the_middle_of_a_line_too() {
        let text = "cpu=1 call=7 number=0x2: expected result 0x9 or more got 0x8";
        for line in [format!("stress: VIOLATION {text}"), format!("w 1 5 abstress: VIOLATION {text}")] {
            assert_eq!(read(line.as_bytes()), Said::Violation(text.to_owned()));
        }
    }

    #[test]
    fn who_wrote_what() {
        assert_eq!(read(b"w 0 0 a"), Said::Written);
        assert_eq!(read(b"ringside: 735 mappings"), Said::Kernel);
        assert!(matches!(read(b"stress: there is no option 'x'"), Said::Program(_)));
        assert_eq!(read(b"\xff"), Said::Nobody);
        assert_eq!(read(b""), Said::Nobody);
    }
}
