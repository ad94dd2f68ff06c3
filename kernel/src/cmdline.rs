//! The command line: `key=value` options, then `--` and the program's arguments.
//!
//! Blanks part tokens. Double quotes group, a backslash takes the next character as it is, inside of quotes
//! and outside. Nothing is copied: a [`Token`] is a piece of the line that is unescaped while it is read.
#![forbid(unsafe_code)]

mod breach;
mod failure;
mod token;

use core::fmt;
use core::ops::RangeInclusive;

use kernel_abi::trace::{self, GROUPS};

pub use self::breach::Breach;
pub use self::failure::{Deed, Failures, Place};
use self::token::Tokens;
pub use self::token::{Token, Unescape};
use crate::repeat::Repeat;

/// The program that runs if the line names none.
pub const DEFAULT_PROGRAM: &str = "selftest";
/// The timer tick if the line names none, in hertz.
pub const DEFAULT_TICK_HZ: u32 = 100;
/// Records in each CPU's trace if the line names no number: 128 KiB.
pub const DEFAULT_TRACE_RECORDS: u32 = 4096;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// `program=NAME`: what every CPU runs.
    pub program: Token<'a>,
    /// `tick_hz=N`: rate of the timer tick in hertz, 1 to 10000.
    pub tick_hz: u32,
    /// `panic_cpu=K` and its kin: which CPU fails on purpose, how, and where.
    pub failures: Failures,
    /// `nest_nmi=yes`: each CPU sends itself an NMI out of its NMI handler before it starts its program.
    pub nest_nmi: bool,
    /// `dump_cpus=yes`: each CPU prints its tables, stacks and control registers before it starts its program.
    pub dump_cpus: bool,
    /// `breach=KIND`: each CPU does, before it starts its program, what ring 0 must not.
    pub breach: Option<Breach>,
    /// `lose_ap=K`: CPU K is never sent its start-up message.
    pub lose_ap: Option<u32>,
    /// `delay_ap=K`: CPU K is sent its start-up message only after the BSP stopped waiting.
    pub delay_ap: Option<u32>,
    /// `ipi_storm=R`: each CPU sends R IPIs a second to the others, in turn.
    pub ipi_storm: u32,
    /// `nmi_storm=R`: likewise with NMIs.
    pub nmi_storm: u32,
    /// `serial=percpu`: each CPU writes to a serial port of its own; else (`shared`) all to the console.
    pub own_uarts: bool,
    /// `repeat=N` and its kin: how often the program is started.
    pub repeat: Repeat,
    /// `trace=GROUP,...` and its kin: what the trace records, and where it goes.
    pub trace: TraceOptions,
    args: Tokens<'a>,
}

impl<'a> Options<'a> {
    /// Parses a whole line, the program's arguments included.
    ///
    /// # Errors
    /// The first [`CmdlineError`] in the line.
    pub fn parse(line: &'a [u8]) -> Result<Options<'a>, CmdlineError<'a>> {
        let mut tokens = Tokens(core::str::from_utf8(line).map_err(|_| CmdlineError::NotUtf8)?);
        let mut raw = [None; Key::ALL.len()];
        while let Some(token) = tokens.next().transpose()? {
            if token == *"--" {
                break;
            }
            let (key, value) = Key::split(token)?;
            if raw[key as usize].replace(value).is_some() {
                return Err(CmdlineError::Duplicate(key));
            }
        }
        let options = Options {
            program: raw[Key::Program as usize].unwrap_or(Token::plain(DEFAULT_PROGRAM)),
            tick_hz: Key::TickHz.number(&raw)?.unwrap_or(DEFAULT_TICK_HZ),
            failures: Failures::from(&raw)?,
            nest_nmi: Key::NestNmi.one_of(&raw, ["no", "yes"])?,
            dump_cpus: Key::DumpCpus.one_of(&raw, ["no", "yes"])?,
            breach: raw[Key::Breach as usize].map(Breach::named).transpose()?,
            lose_ap: Key::LoseAp.number(&raw)?,
            delay_ap: Key::DelayAp.number(&raw)?,
            ipi_storm: Key::IpiStorm.number(&raw)?.unwrap_or(0),
            nmi_storm: Key::NmiStorm.number(&raw)?.unwrap_or(0),
            own_uarts: Key::Serial.one_of(&raw, ["shared", "percpu"])?,
            repeat: Repeat {
                rounds: Key::Repeat.number(&raw)?.unwrap_or(1),
                deaths_go_on: Key::Deaths.one_of(&raw, ["end", "go-on"])?,
                limit_ticks: Key::LimitTicks.number(&raw)?.unwrap_or(0),
            },
            trace: TraceOptions::from(&raw)?,
            args: tokens,
        };
        if options.program.is_empty() {
            return Err(CmdlineError::BadValue(Key::Program, options.program));
        }
        options.args.clone().try_for_each(|token| token.map(drop))?;
        Ok(options)
    }

    /// What stands behind `--`, in order.
    pub fn program_args(&self) -> impl Iterator<Item = Token<'a>> + Clone + use<'a> {
        // `parse` has read all of them, so none is an error.
        self.args.clone().map_while(Result::ok)
    }
}

/// The values as they stand in the line, by key.
type RawValues<'a> = [Option<Token<'a>>; Key::ALL.len()];

/// What is recorded in the CPUs' traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// `trace=GROUP,...`: mask of [`kernel_abi::trace::Kind`] bits; 0, nothing, is the default.
    pub kinds: u32,
    /// `trace_records=N`: records in each CPU's ring, 16 to 1048576, rounded up to a power of two.
    pub records: u32,
    /// `trace_mode=stream`: a full ring drops what comes; else (`flight`) the oldest are overwritten.
    pub stream: bool,
    /// `trace_alternate=MS`: recording is switched off and on in turn, every so many milliseconds; 0 is never.
    pub alternate_ms: u32,
    /// `trace_via=serial`: the rings are sent over the console at the end; else (`ram`) the host reads memory.
    pub serial: bool,
}

impl TraceOptions {
    fn from<'a>(raw: &RawValues<'a>) -> Result<TraceOptions, CmdlineError<'a>> {
        Ok(TraceOptions {
            kinds: raw[Key::Trace as usize].map_or(Ok(0), trace_kinds)?,
            records: Key::TraceRecords.number(raw)?.unwrap_or(DEFAULT_TRACE_RECORDS).next_power_of_two(),
            stream: Key::TraceMode.one_of(raw, ["flight", "stream"])?,
            alternate_ms: Key::TraceAlternate.number(raw)?.unwrap_or(0),
            serial: Key::TraceVia.one_of(raw, ["ram", "serial"])?,
        })
    }
}

/// The mask that a list of groups stands for.
fn trace_kinds(value: Token<'_>) -> Result<u32, CmdlineError<'_>> {
    let bad = CmdlineError::BadValue(Key::Trace, value);
    if value == *"all" {
        return Ok(trace::all_groups());
    }
    let mut buffer = [0; 128];
    let words = value.copy_to(&mut buffer).ok_or(bad.clone())?;
    words.split(',').try_fold(0, |mask, word| {
        GROUPS.iter().find(|(name, _)| *name == word).map(|(_, group)| mask | group).ok_or(bad.clone())
    })
}

/// The options' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// See [`Options::program`].
    Program,
    /// See [`Options::tick_hz`].
    TickHz,
    /// See [`Failures::panic_cpu`].
    PanicCpu,
    /// See [`Failures::overflow_cpu`].
    OverflowCpu,
    /// See [`Failures::double_fault_cpu`].
    DoubleFaultCpu,
    /// See [`Failures::place`].
    FailIn,
    /// See [`Options::nest_nmi`].
    NestNmi,
    /// See [`Options::dump_cpus`].
    DumpCpus,
    /// See [`Options::breach`].
    Breach,
    /// See [`Options::lose_ap`].
    LoseAp,
    /// See [`Options::delay_ap`].
    DelayAp,
    /// See [`Options::ipi_storm`].
    IpiStorm,
    /// See [`Options::nmi_storm`].
    NmiStorm,
    /// See [`Options::own_uarts`].
    Serial,
    /// See [`Repeat::rounds`].
    Repeat,
    /// See [`Repeat::deaths_go_on`].
    Deaths,
    /// See [`Repeat::limit_ticks`].
    LimitTicks,
    /// See [`TraceOptions::kinds`].
    Trace,
    /// See [`TraceOptions::records`].
    TraceRecords,
    /// See [`TraceOptions::stream`].
    TraceMode,
    /// See [`TraceOptions::serial`].
    TraceVia,
    /// See [`TraceOptions::alternate_ms`].
    TraceAlternate,
}

impl Key {
    /// Every key, in the order of their discriminants.
    pub const ALL: [Key; 22] = [
        Key::Program,
        Key::TickHz,
        Key::PanicCpu,
        Key::OverflowCpu,
        Key::DoubleFaultCpu,
        Key::FailIn,
        Key::NestNmi,
        Key::DumpCpus,
        Key::Breach,
        Key::LoseAp,
        Key::DelayAp,
        Key::IpiStorm,
        Key::NmiStorm,
        Key::Serial,
        Key::Repeat,
        Key::Deaths,
        Key::LimitTicks,
        Key::Trace,
        Key::TraceRecords,
        Key::TraceMode,
        Key::TraceVia,
        Key::TraceAlternate,
    ];

    /// The word before the `=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Key::Program => "program",
            Key::TickHz => "tick_hz",
            Key::PanicCpu => "panic_cpu",
            Key::OverflowCpu => "overflow_cpu",
            Key::DoubleFaultCpu => "double_fault_cpu",
            Key::FailIn => "fail_in",
            Key::NestNmi => "nest_nmi",
            Key::DumpCpus => "dump_cpus",
            Key::Breach => "breach",
            Key::LoseAp => "lose_ap",
            Key::DelayAp => "delay_ap",
            Key::IpiStorm => "ipi_storm",
            Key::NmiStorm => "nmi_storm",
            Key::Serial => "serial",
            Key::Repeat => "repeat",
            Key::Deaths => "deaths",
            Key::LimitTicks => "limit_ticks",
            Key::Trace => "trace",
            Key::TraceRecords => "trace_records",
            Key::TraceMode => "trace_mode",
            Key::TraceVia => "trace_via",
            Key::TraceAlternate => "trace_alternate",
        }
    }

    /// The numbers that it takes.
    const fn range(self) -> RangeInclusive<u32> {
        match self {
            Key::TickHz => 1..=10_000,
            // The BSP, CPU 0, is not started by another CPU.
            Key::LoseAp | Key::DelayAp => 1..=u32::MAX,
            Key::TraceRecords => 16..=1 << 20,
            Key::TraceAlternate => 0..=60_000,
            Key::Repeat => 1..=1_000_000_000,
            Key::IpiStorm | Key::NmiStorm => 0..=100_000,
            _ => 0..=u32::MAX,
        }
    }

    /// Parts a token at its first `=`.
    fn split(token: Token<'_>) -> Result<(Key, Token<'_>), CmdlineError<'_>> {
        let mut value = token.chars();
        let key_len: usize = value.by_ref().take_while(|&c| c != '=').map(char::len_utf8).sum();
        let is_key = |key: &Key| token.bytes().take(key_len).eq(key.name().bytes());
        let key = Key::ALL.into_iter().find(is_key).ok_or(CmdlineError::UnknownKey(token))?;
        Ok((key, value.token()))
    }

    /// Is the value the second word? The first is the default.
    fn one_of<'a>(self, raw: &RawValues<'a>, words: [&str; 2]) -> Result<bool, CmdlineError<'a>> {
        match raw[self as usize] {
            None => Ok(false),
            Some(value) if value == *words[0] => Ok(false),
            Some(value) if value == *words[1] => Ok(true),
            Some(value) => Err(CmdlineError::BadValue(self, value)),
        }
    }

    fn number<'a>(self, raw: &RawValues<'a>) -> Result<Option<u32>, CmdlineError<'a>> {
        let Some(token) = raw[self as usize] else { return Ok(None) };
        let digits =
            token.chars().try_fold(0_u32, |number, c| number.checked_mul(10)?.checked_add(c.to_digit(10)?));
        match digits {
            Some(number) if !token.is_empty() && self.range().contains(&number) => Ok(Some(number)),
            _ => Err(CmdlineError::BadValue(self, token)),
        }
    }
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CmdlineError<'a> {
    /// The token is no `key=value` with a known key.
    UnknownKey(Token<'a>),
    /// The key stands there twice.
    Duplicate(Key),
    /// The key does not take this value.
    BadValue(Key, Token<'a>),
    /// It says where a CPU fails, but not which.
    NobodyFails,
    /// `fail_in=console-held` and more than one CPU that fails.
    ManyFail,
    /// A double quote has no partner.
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
                write!(f, "unknown option '{token}'; known are")?;
                for (n, key) in Key::ALL.into_iter().enumerate() {
                    write!(f, "{} {}=", if n == 0 { "" } else { "," }, key.name())?;
                }
                f.write_str("; the program's arguments go behind '--'")
            }
            CmdlineError::Duplicate(key) => write!(f, "option {}= is given twice", key.name()),
            CmdlineError::BadValue(Key::Program, _) => {
                f.write_str("program= takes a program's name, not nothing")
            }
            CmdlineError::BadValue(Key::Trace, token) => {
                write!(f, "trace= takes 'all' or words from")?;
                GROUPS.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, " with commas between them, not '{token}'")
            }
            CmdlineError::BadValue(Key::Serial, token) => {
                write!(f, "serial= takes 'shared' or 'percpu', not '{token}'")
            }
            CmdlineError::BadValue(Key::Breach, token) => {
                f.write_str("breach= takes one of")?;
                Breach::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
            }
            CmdlineError::BadValue(Key::FailIn, token) => {
                f.write_str("fail_in= takes one of")?;
                Place::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
            }
            CmdlineError::BadValue(key @ (Key::NestNmi | Key::DumpCpus), token) => {
                write!(f, "{}= takes 'yes' or 'no', not '{token}'", key.name())
            }
            CmdlineError::ManyFail => f.write_str("fail_in=console-held goes with one failing CPU"),
            CmdlineError::NobodyFails => f.write_str(
                "fail_in= says where, and no panic_cpu=, overflow_cpu= or double_fault_cpu= says who",
            ),
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
            CmdlineError::UnterminatedQuote => {
                f.write_str("a double quote is not closed; \\\" is a literal one")
            }
            CmdlineError::TrailingBackslash => {
                f.write_str("the line ends with a backslash that escapes nothing; \\\\ is a literal one")
            }
            CmdlineError::NotUtf8 => f.write_str("the command line is not UTF-8"),
        }
    }
}

impl core::error::Error for CmdlineError<'_> {}

#[cfg(test)]
mod tests;
