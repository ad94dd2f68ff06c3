//! What the arguments and the environment say: the seed, how many probes, which start this is, and how the copy before
//! it ended.

use core::fmt;

use user::args;

/// What the arguments may be.
pub const USAGE: &str = "usage: hostile [--seed X] [--probes N]
  X decimal or 0x hexadecimal, 64 bits; N from 1, probes that a copy survives before the one that kills it";

/// Probes in one start, unless the arguments say how many.
const DEFAULT_PROBES: u64 = 1000;

/// An order that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What all choices come from.
    pub seed: u64,
    /// Probes that a copy survives, in each start.
    pub probes: u64,
    /// Which start this is, from 0.
    pub round: u64,
    /// How many starts there are. In the last one the copy does nothing deadly.
    pub rounds: u64,
    /// How the copy before this one ended.
    pub last: Last,
}

/// How a copy ended, as the kernel tells the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// There was none.
    None,
    /// By `SYS_EXIT`.
    Exited(i64),
    /// By an exception.
    Killed {
        /// The exception.
        vector: u64,
        /// Its error code; 0 if it has none.
        error: u64,
        /// Where.
        rip: u64,
        /// The address that a page fault was about.
        cr2: u64,
    },
    /// It ran too long.
    Limit,
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Last::None => f.write_str("no copy before"),
            Last::Exited(code) => write!(f, "exit code {code}"),
            Last::Killed { vector, error, rip, cr2 } => {
                write!(f, "vector {vector:#x} error {error:#x} rip {rip:#x} cr2 {cr2:#x}")
            }
            Last::Limit => f.write_str("time limit"),
        }
    }
}

/// What is wrong with them.
#[derive(Debug, PartialEq, Eq)]
pub enum OptionsError<'a> {
    /// There is no such option, or it comes twice, or it lacks its value.
    Argument(&'a [u8]),
    /// The kernel says something that a copy does not understand.
    Environment(&'a [u8]),
}

impl fmt::Display for OptionsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            OptionsError::Argument(text) => ("the argument", text),
            OptionsError::Environment(text) => ("the environment's", text),
        };
        write!(f, "{what} '{}' makes no sense", text.escape_ascii())
    }
}

impl Options {
    /// Reads the arguments behind the program's name, and the environment.
    ///
    /// # Errors
    /// [`OptionsError`], for the first that makes no sense.
    pub fn parse<'a>(
        mut arguments: impl Iterator<Item = &'a [u8]>,
        environment: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Options, OptionsError<'a>> {
        let (mut seed, mut probes) = (None, None);
        while let Some(option) = arguments.next() {
            let wrong = OptionsError::Argument(option);
            let place = match option {
                b"--seed" => &mut seed,
                b"--probes" => &mut probes,
                _ => return Err(wrong),
            };
            let value = arguments.next().and_then(number);
            if value.is_none() || place.is_some() {
                return Err(wrong);
            }
            *place = value;
        }
        if probes == Some(0) {
            return Err(OptionsError::Argument(b"--probes"));
        }
        let mut options = Options {
            seed: seed.unwrap_or(1),
            probes: probes.unwrap_or(DEFAULT_PROBES),
            round: 0,
            rounds: 1,
            last: Last::None,
        };
        for string in environment {
            options.take(string).ok_or(OptionsError::Environment(string))?;
        }
        Ok(options)
    }

    /// Takes a string of the environment. `None`: it makes no sense.
    fn take(&mut self, string: &[u8]) -> Option<()> {
        if let Some(text) = string.strip_prefix(b"round=") {
            self.round = number(text)?;
        } else if let Some(text) = string.strip_prefix(b"rounds=") {
            self.rounds = number(text)?;
        } else if let Some(text) = string.strip_prefix(b"last=") {
            self.last = last(text)?;
        }
        Some(())
    }

    /// Is this the last start?
    pub fn is_last(&self) -> bool {
        self.round.saturating_add(1) >= self.rounds
    }
}

fn last(text: &[u8]) -> Option<Last> {
    let mut words = text.split(|&byte| byte == b':');
    let kind = words.next()?;
    let mut next = || number(words.next()?);
    let last = match kind {
        b"none" => Last::None,
        b"limit" => Last::Limit,
        b"killed" => Last::Killed { vector: next()?, error: next()?, rip: next()?, cr2: next()? },
        b"exited" => {
            let code = words.next()?;
            let (negative, digits) = match code.strip_prefix(b"-") {
                Some(digits) => (true, digits),
                None => (false, code),
            };
            let code = i64::try_from(number(digits)?).ok()?;
            Last::Exited(if negative { -code } else { code })
        }
        _ => return None,
    };
    words.next().is_none().then_some(last)
}

/// A number, decimal or with `0x`.
fn number(text: &[u8]) -> Option<u64> {
    let Some(digits) = text.strip_prefix(b"0x") else { return args::number(text) };
    // `from_str_radix` would also take a sign.
    if !digits.first()?.is_ascii_hexdigit() {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(arguments: &[&'a str], environment: &[&'a str]) -> Result<Options, OptionsError<'a>> {
        let bytes = |texts: &[&'a str]| texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>();
        Options::parse(bytes(arguments).into_iter(), bytes(environment).into_iter())
    }

    #[test]
    fn without_anything_the_defaults() {
        let options = parse(&[], &[]).unwrap();
        let expected = Options { seed: 1, probes: 1000, round: 0, rounds: 1, last: Last::None };
        assert_eq!(options, expected);
        assert!(options.is_last());
    }

    #[test]
    fn arguments_and_environment_are_read() {
        let environment =
            ["HOME=/", "round=3", "rounds=10", "last=killed:0xe:0x15:0x100000000:0xffff800000000000"];
        let options = parse(&["--probes", "7", "--seed", "0xfF"], &environment).unwrap();
        assert_eq!((options.seed, options.probes, options.round, options.rounds), (255, 7, 3, 10));
        let killed = Last::Killed { vector: 14, error: 0x15, rip: 0x1_0000_0000, cr2: 0xffff_8000_0000_0000 };
        assert_eq!(options.last, killed);
        assert!(!options.is_last());
        for (text, last) in [
            ("last=none", Last::None),
            ("last=limit", Last::Limit),
            ("last=exited:0", Last::Exited(0)),
            ("last=exited:-7", Last::Exited(-7)),
        ] {
            assert_eq!(parse(&[], &[text]).unwrap().last, last);
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for arguments in [&["-x"][..], &["--seed"], &["--seed", "-1"], &["--seed", "1", "--seed", "2"]] {
            assert_eq!(parse(arguments, &[]), Err(OptionsError::Argument(arguments[0].as_bytes())));
        }
        assert_eq!(parse(&["--probes", "0"], &[]), Err(OptionsError::Argument(b"--probes")));
        for text in
            ["round=x", "last=", "last=killed:0xe", "last=limit:1", "last=exited:", "last=not-started"]
        {
            assert_eq!(parse(&[], &[text]), Err(OptionsError::Environment(text.as_bytes())), "{text}");
        }
    }
}
