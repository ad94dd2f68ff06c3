//! The command-line arguments.

use core::fmt;

use user::args;

use crate::mix::{Mix, MixError};

/// The usage message.
pub const USAGE: &str = "usage: stress [--mix KIND=WEIGHT,...] [--calls N] [--seconds S] [--seed X]
  KIND null, ticks, clock, write, cpu, trace or bad; WEIGHT a whole number, their sum from 1 to 4294967295
  N from 1, on each CPU; S from 1 to 1000000000; X decimal or 0x hexadecimal, 64 bits";

/// Number of calls on each CPU if the arguments set no limit.
const DEFAULT_CALLS: u64 = 20_000;
/// The maximum of `--seconds`, for which the deadline in nanoseconds still fits in 64 bits.
const SECONDS_MAX: u64 = 1_000_000_000;

/// Parsed arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Weights of the kinds of calls.
    pub mix: Mix,
    /// Limit on the number of calls on each CPU.
    pub calls: Option<u64>,
    /// Time limit in seconds. At least one of the two limits is set.
    pub seconds: Option<u64>,
    /// The seed of all random numbers.
    pub seed: u64,
}

/// An error in the arguments.
#[derive(Debug, PartialEq, Eq)]
pub enum OptionsError<'a> {
    /// The option is unknown.
    Unknown(&'a [u8]),
    /// The option occurs twice.
    Twice(&'a [u8]),
    /// The option is the last argument but needs a value.
    NoValue(&'a [u8]),
    /// The option, and its invalid value.
    BadValue(&'a [u8], &'a [u8]),
    /// The value of `--mix` is invalid.
    Mix(MixError<'a>),
}

impl fmt::Display for OptionsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionsError::Unknown(option) => write!(f, "unknown option '{}'", option.escape_ascii()),
            OptionsError::Twice(option) => write!(f, "{} is given twice", option.escape_ascii()),
            OptionsError::NoValue(option) => write!(f, "{} needs a value", option.escape_ascii()),
            OptionsError::BadValue(option, value) => {
                write!(f, "invalid value for {}: '{}'", option.escape_ascii(), value.escape_ascii())
            }
            OptionsError::Mix(error) => write!(f, "--mix: {error}"),
        }
    }
}

impl Options {
    /// Parses the arguments that follow the program's name.
    ///
    /// # Errors
    /// [`OptionsError`] for the first invalid argument.
    pub fn parse<'a>(mut arguments: impl Iterator<Item = &'a [u8]>) -> Result<Options, OptionsError<'a>> {
        let (mut mix, mut calls, mut seconds, mut seed) = (None, None, None, None);
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or(OptionsError::NoValue(option));
            let repeated = match option {
                b"--mix" => mix.replace(Mix::parse(value()?).map_err(OptionsError::Mix)?).is_some(),
                b"--calls" => read(&mut calls, option, value()?, |text| within(text, u64::MAX))?,
                b"--seconds" => read(&mut seconds, option, value()?, |text| within(text, SECONDS_MAX))?,
                b"--seed" => read(&mut seed, option, value()?, seed_number)?,
                _ => return Err(OptionsError::Unknown(option)),
            };
            if repeated {
                return Err(OptionsError::Twice(option));
            }
        }
        if calls.is_none() && seconds.is_none() {
            calls = Some(DEFAULT_CALLS);
        }
        Ok(Options { mix: mix.unwrap_or(Mix::DEFAULT), calls, seconds, seed: seed.unwrap_or(1) })
    }
}

/// Parses an option's value into `place`. Returns whether `place` already had a value.
fn read<'a>(
    place: &mut Option<u64>,
    option: &'a [u8],
    value: &'a [u8],
    read: fn(&[u8]) -> Option<u64>,
) -> Result<bool, OptionsError<'a>> {
    let number = read(value).ok_or(OptionsError::BadValue(option, value))?;
    Ok(place.replace(number).is_some())
}

fn within(text: &[u8], max: u64) -> Option<u64> {
    args::number(text).filter(|number| (1..=max).contains(number))
}

fn seed_number(text: &[u8]) -> Option<u64> {
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

    fn parse<'a>(arguments: &[&'a str]) -> Result<Options, OptionsError<'a>> {
        Options::parse(arguments.iter().map(|argument| argument.as_bytes()))
    }

    #[test]
    fn no_arguments_give_the_defaults() {
        let expected = Options { mix: Mix::DEFAULT, calls: Some(20_000), seconds: None, seed: 1 };
        assert_eq!(parse(&[]), Ok(expected));
    }

    #[test]
    fn every_option_is_parsed() {
        let options = parse(&["--seed", "0xfFff", "--seconds", "5", "--mix", "null=1"]).unwrap();
        assert_eq!((options.seed, options.seconds, options.calls), (0xffff, Some(5), None));
        assert_ne!(options.mix, Mix::DEFAULT);
        let options = parse(&["--calls", "7", "--seconds", "5", "--seed", "18446744073709551615"]).unwrap();
        assert_eq!((options.calls, options.seconds, options.seed), (Some(7), Some(5), u64::MAX));
    }

    #[test]
    fn invalid_arguments_are_named() {
        use OptionsError::{BadValue, NoValue, Twice, Unknown};
        for (arguments, error) in [
            (&["hello"][..], Unknown(b"hello")),
            (&["--calls"], NoValue(b"--calls")),
            (&["--calls", "0"], BadValue(b"--calls", b"0")),
            (&["--calls", "ten"], BadValue(b"--calls", b"ten")),
            (&["--seconds", "1000000001"], BadValue(b"--seconds", b"1000000001")),
            (&["--seed", "0x"], BadValue(b"--seed", b"0x")),
            (&["--seed", "0x+1"], BadValue(b"--seed", b"0x+1")),
            (&["--seed", "-1"], BadValue(b"--seed", b"-1")),
            (&["--seed", "0x10000000000000000"], BadValue(b"--seed", b"0x10000000000000000")),
            (&["--seed", "1", "--seed", "2"], Twice(b"--seed")),
        ] {
            assert_eq!(parse(arguments), Err(error), "{arguments:?}");
        }
        assert!(matches!(parse(&["--mix", ""]), Err(OptionsError::Mix(_))));
    }
}
