//! Parses console lines: the kernel's messages and the program's output. "Copy" means the copy of the program that runs
//! on one CPU.

use kernel_abi::syscall::TABLE_LEN;

use super::seeds::Seed;

/// Number of calls of each system call, by its number. The last element counts all numbers beyond the system-call
/// table.
pub type Counts = [u64; TABLE_LEN + 1];

/// Prefix of a line that reports a violation.
const VIOLATION: &str = "stress: VIOLATION ";

/// The last line of a copy, which contains its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLine {
    /// The seed that the copy ran with.
    pub seed: Seed,
    /// Calls made from the `--mix`.
    pub calls: u64,
    /// Number of complete numbered lines that the copy wrote.
    pub lines: u64,
    /// All system calls of the copy, by number.
    pub counts: Counts,
}

/// A console line without its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleLine {
    /// One of the program's numbered lines, or a line that resembles one.
    Written,
    /// A violation reported by the copy.
    Violation(String),
    /// The copy's last line.
    Last(LastLine),
    /// Another line of the program: a message about invalid arguments, or a garbled last line.
    Program(String),
    /// A message of the kernel.
    Kernel,
    /// None of these.
    Unknown,
}

/// Splits a console line into the CPU named in its prefix and the rest.
pub fn split(line: &[u8]) -> Option<(u32, &[u8])> {
    let rest = line.strip_prefix(b"[cpu")?;
    let end = rest.iter().position(|&byte| byte == b']')?;
    let cpu = std::str::from_utf8(&rest[..end]).ok()?;
    let cpu = cpu.bytes().all(|byte| byte.is_ascii_digit()).then(|| cpu.parse().ok())??;
    Some((cpu, rest[end + 1..].strip_prefix(b" ")?))
}

/// Parses the text after the prefix.
pub fn parse(text: &[u8]) -> ConsoleLine {
    let words = String::from_utf8_lossy(text);
    // The copy may report a violation after it has written part of another line.
    if let Some((_, violation)) = words.split_once(VIOLATION) {
        return ConsoleLine::Violation(violation.to_owned());
    }
    if words.starts_with("w ") {
        return ConsoleLine::Written;
    }
    if words.starts_with("ringside: ") {
        return ConsoleLine::Kernel;
    }
    match parse_last(&words) {
        Some(last) => ConsoleLine::Last(last),
        None if words.starts_with("stress: ") || words.starts_with("usage: stress ") => {
            ConsoleLine::Program(words.into_owned())
        }
        None => ConsoleLine::Unknown,
    }
}

/// Parses `stress: seed=0xX calls=N lines=L counts=C0,..,C15,OTHER`. Returns `None` if a field is missing or text
/// follows.
fn parse_last(text: &str) -> Option<LastLine> {
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
    (!rest).then_some(LastLine { seed, calls, lines, counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: &str = "stress: seed=0xab calls=5 lines=2 counts=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,99";

    #[test]
    fn prefix_has_the_cpu() {
        assert_eq!(split(b"[cpu12] w 12 0 a"), Some((12, b"w 12 0 a".as_slice())));
        for line in ["w 1 0 a", "[cpu] x", "[cpu?] x", "[cpu+1] x", "[cpu1]x", "[cpu1", " [cpu1] x", ""] {
            assert_eq!(split(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn last_line_is_parsed_only_if_complete() {
        let counts = std::array::from_fn(|n| if n == TABLE_LEN { 99 } else { n as u64 });
        assert_eq!(
            parse(LAST.as_bytes()),
            ConsoleLine::Last(LastLine { seed: Seed(0xab), calls: 5, lines: 2, counts })
        );
        for garbled in [
            &LAST[..LAST.len() - 3],
            &format!("{LAST},1"),
            &format!("{LAST} x"),
            &LAST.replace("lines=2 ", ""),
        ] {
            assert_eq!(parse(garbled.as_bytes()), ConsoleLine::Program(garbled.to_owned()));
        }
    }

    #[test]
    fn violation_is_found_in_the_middle_of_a_line() {
        let text = "cpu=1 call=7 number=0x2: expected result 0x9 or more got 0x8";
        for line in [format!("stress: VIOLATION {text}"), format!("w 1 5 abstress: VIOLATION {text}")] {
            assert_eq!(parse(line.as_bytes()), ConsoleLine::Violation(text.to_owned()));
        }
    }

    #[test]
    fn lines_are_classified() {
        assert_eq!(parse(b"w 0 0 a"), ConsoleLine::Written);
        assert_eq!(parse(b"ringside: 735 mappings"), ConsoleLine::Kernel);
        assert!(matches!(parse(b"stress: unknown option 'x'"), ConsoleLine::Program(_)));
        assert_eq!(parse(b"\xff"), ConsoleLine::Unknown);
        assert_eq!(parse(b""), ConsoleLine::Unknown);
    }
}
