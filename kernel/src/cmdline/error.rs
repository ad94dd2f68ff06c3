//! Command-line errors, with messages that list the valid values.
#![forbid(unsafe_code)]

use core::fmt;

use kernel_abi::trace::GROUPS;

use super::{ApStop, Finish, FirmwareFault, Key, Place, Token, UartFault, Violation};
use crate::features::{OPTIONAL, WITHOUT_MAX, is_required};

/// A command-line error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CmdlineError<'a> {
    /// The token is not `key=value` with a known key.
    UnknownKey(Token<'a>),
    /// The key is given twice.
    Duplicate(Key),
    /// The key does not accept this value.
    BadValue(Key, Token<'a>),
    /// `fail_in=` is given, but no CPU is to fail.
    NoFailingCpu,
    /// More than one CPU is to fail at a place that allows only one failing CPU.
    SeveralFailingCpus(Place),
    /// CPU 0 is to fail at a place that only an AP reaches.
    OnlyAps(Place),
    /// An option has no effect because this key is not given.
    WithoutEffect(Key),
    /// `cycle=` and `nmi_storm=` are both given.
    NmisWhileCpusLeave,
    /// `floor=` is given with this program, which does not support it.
    FloorForProgram(Token<'a>),
    /// A double quote is not closed.
    UnterminatedQuote,
    /// The line ends with a backslash, which escapes nothing.
    TrailingBackslash,
    /// The line is not UTF-8.
    NotUtf8,
}

impl fmt::Display for CmdlineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CmdlineError::UnknownKey(token) => {
                write!(f, "unknown option '{token}'; the known options are")?;
                for (n, key) in Key::ALL.into_iter().enumerate() {
                    write!(f, "{} {}=", if n == 0 { "" } else { "," }, key.name())?;
                }
                f.write_str("; the program's arguments go after '--'")
            }
            CmdlineError::Duplicate(key) => write!(f, "option {}= is given twice", key.name()),
            CmdlineError::BadValue(Key::Program, _) => f.write_str("program= needs a program's name"),
            CmdlineError::BadValue(Key::Trace, token) => {
                write!(f, "trace= takes 'all' or words from")?;
                GROUPS.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, " separated by commas, not '{token}'")
            }
            CmdlineError::BadValue(Key::Serial, token) => {
                write!(f, "serial= takes 'shared' or 'percpu', not '{token}'")
            }
            CmdlineError::BadValue(Key::Breach, token) => {
                f.write_str("breach= takes one of")?;
                Violation::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
            }
            CmdlineError::BadValue(Key::Without, token) => explain_without(*token, f),
            CmdlineError::BadValue(Key::DieIn, token) => {
                f.write_str("die_in= takes one of")?;
                ApStop::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
            }
            CmdlineError::BadValue(Key::UartFault, token) => {
                f.write_str("uart_fault= takes one of")?;
                UartFault::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
            }
            CmdlineError::BadValue(Key::FirmwareFault, token) => {
                f.write_str("firmware_fault= takes one of")?;
                FirmwareFault::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
            }
            CmdlineError::BadValue(Key::Verdict, token) => {
                f.write_str("verdict= takes one of")?;
                Finish::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
            }
            CmdlineError::BadValue(Key::FailIn, token) => {
                f.write_str("fail_in= takes one of")?;
                Place::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
            }
            CmdlineError::BadValue(key @ (Key::NestNmi | Key::StrayInterrupts | Key::DumpCpus), token) => {
                write!(f, "{}= takes 'yes' or 'no', not '{token}'", key.name())
            }
            CmdlineError::SeveralFailingCpus(place) => {
                write!(f, "fail_in={} needs exactly one failing CPU", place.name())
            }
            CmdlineError::OnlyAps(place) => {
                write!(f, "fail_in={}: CPU 0 never leaves the run, so name another CPU", place.name())
            }
            CmdlineError::NoFailingCpu => {
                f.write_str("fail_in= needs a failing CPU: panic_cpu=, overflow_cpu= or double_fault_cpu=")
            }
            CmdlineError::BadValue(Key::Deaths, token) => {
                write!(f, "deaths= takes 'end' or 'go-on', not '{token}'")
            }
            CmdlineError::BadValue(Key::TraceMode, token) => {
                write!(f, "trace_mode= takes 'flight' or 'stream', not '{token}'")
            }
            CmdlineError::BadValue(Key::TraceVia, token) => {
                write!(f, "trace_via= takes 'ram' or 'serial', not '{token}'")
            }
            CmdlineError::BadValue(key, token) => {
                let range = key.range();
                write!(
                    f,
                    "{}= takes a number from {} to {}, not '{token}'",
                    key.name(),
                    range.start(),
                    range.end()
                )
            }
            CmdlineError::WithoutEffect(key) => {
                let option = if *key == Key::Cycle { Key::EarlyAp } else { Key::DieIn };
                write!(f, "{}= needs {}=", option.name(), key.name())
            }
            CmdlineError::NmisWhileCpusLeave => f.write_str(
                "cycle= and nmi_storm= cannot be combined: a CPU that waits for its start-up IPI must not get an NMI",
            ),
            CmdlineError::FloorForProgram(program) => write!(
                f,
                "floor= is for measurements and needs program=lengths, not '{program}': system calls do nothing"
            ),
            CmdlineError::UnterminatedQuote => {
                f.write_str("a double quote is not closed; write \\\" for a literal double quote")
            }
            CmdlineError::TrailingBackslash => f.write_str(
                "the line ends with a backslash that escapes nothing; write \\\\ for a literal backslash",
            ),
            CmdlineError::NotUtf8 => f.write_str("the command line is not UTF-8"),
        }
    }
}

impl core::error::Error for CmdlineError<'_> {}

/// Writes why a value of `without=` is refused, with the words that are accepted.
fn explain_without(value: Token<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut buffer = [0; WITHOUT_MAX];
    let mut words = value.copy_to(&mut buffer).unwrap_or("").split(',');
    if let Some(word) = words.find(|word| is_required(word)) {
        write!(f, "without={word}: the kernel cannot do without this feature; ")?;
    }
    f.write_str("without= takes words from")?;
    OPTIONAL.iter().filter_map(|feature| feature.word).try_for_each(|word| write!(f, " {word}"))?;
    write!(f, " separated by commas, not '{value}'")
}
