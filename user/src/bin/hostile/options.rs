//! The arguments and the environment: the seed, the number of probes, the index of this copy of the program, and how
//! the previous copy ended.

use core::fmt;

use user::args;

/// The usage message.
pub const USAGE: &str = "usage: hostile [--seed X] [--probes N]
  X decimal or 0x hexadecimal, 64 bits; N from 1, probes that a copy survives before the one that kills it";

/// Default number of returning probes per copy.
const DEFAULT_PROBES: u64 = 1000;

/// Parsed arguments and environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The seed of all random choices.
    pub seed: u64,
    /// The number of returning probes per copy.
    pub probes: u64,
    /// The index of this copy on its CPU, from 0.
    pub round: u64,
    /// The number of copies on each CPU. The last copy makes no deadly probe.
    pub rounds: u64,
    /// How the previous copy ended.
    pub last: Last,
}

/// How a copy ended, as the kernel reports it to the next copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// There was no previous copy.
    None,
    /// The copy called `SYS_EXIT` with this code.
    Exited(i64),
    /// An exception killed the copy.
    Killed {
        /// The vector of the exception.
        vector: u64,
        /// The error code, or 0 if the exception has none.
        error: u64,
        /// The rip that the exception reported.
        rip: u64,
        /// The address that caused a page fault.
        cr2: u64,
    },
    /// The copy exceeded its time limit.
    Limit,
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Last::None => f.write_str("no previous copy"),
            Last::Exited(code) => write!(f, "exit code {code}"),
            Last::Killed { vector, error, rip, cr2 } => {
                write!(f, "vector {vector:#x} error {error:#x} rip {rip:#x} cr2 {cr2:#x}")
            }
            Last::Limit => f.write_str("time limit"),
        }
    }
}

/// An error in the arguments or the environment.
#[derive(Debug, PartialEq, Eq)]
pub enum OptionsError<'a> {
    /// The option is unknown or given twice, or its value is missing or invalid.
    Argument(&'a [u8]),
    /// The kernel passed a string that this program cannot parse.
    Environment(&'a [u8]),
}

impl fmt::Display for OptionsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            OptionsError::Argument(text) => ("argument", text),
            OptionsError::Environment(text) => ("environment string", text),
        };
        write!(f, "invalid {what} '{}'", text.escape_ascii())
    }
}

impl Options {
    /// Parses the arguments that follow the program's name, and the environment.
    ///
    /// # Errors
    /// [`OptionsError`] for the first invalid argument or string.
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

    /// Parses a string of the environment. Returns `None` if it is invalid.
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

    /// Returns whether this is the last copy.
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

/// Parses a decimal number, or a hexadecimal one with `0x`.
fn number(text: &[u8]) -> Option<u64> {
    let Some(digits) = text.strip_prefix(b"0x") else { return args::number(text) };
    // `from_str_radix` would also accept a sign.
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
    fn no_arguments_give_the_defaults() {
        let options = parse(&[], &[]).unwrap();
        let expected = Options { seed: 1, probes: 1000, round: 0, rounds: 1, last: Last::None };
        assert_eq!(options, expected);
        assert!(options.is_last());
    }

    #[test]
    fn arguments_and_environment_are_parsed() {
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
    fn invalid_arguments_are_named() {
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
