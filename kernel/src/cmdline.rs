//! The command line: `key=value` options, then `--` and the program's arguments.
//!
//! Blanks part tokens. Double quotes group, a backslash takes the next character as it is, inside of quotes
//! and outside. Nothing is copied: a [`Token`] is a piece of the line that is unescaped while it is read.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::RangeInclusive;

use kernel_abi::trace::{self, GROUPS};

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
    /// `panic_cpu=K`: CPU K panics on purpose before it starts its program.
    pub panic_cpu: Option<u32>,
    /// `overflow_cpu=K`: CPU K runs off its syscall stack before it starts its program.
    pub overflow_cpu: Option<u32>,
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
            program: raw[Key::Program as usize].unwrap_or(Token { raw: DEFAULT_PROGRAM, quoted: false }),
            tick_hz: Key::TickHz.number(&raw)?.unwrap_or(DEFAULT_TICK_HZ),
            panic_cpu: Key::PanicCpu.number(&raw)?,
            overflow_cpu: Key::OverflowCpu.number(&raw)?,
            breach: raw[Key::Breach as usize].map(Breach::named).transpose()?,
            lose_ap: Key::LoseAp.number(&raw)?,
            delay_ap: Key::DelayAp.number(&raw)?,
            ipi_storm: Key::IpiStorm.number(&raw)?.unwrap_or(0),
            nmi_storm: Key::NmiStorm.number(&raw)?.unwrap_or(0),
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

/// What is recorded in the CPUs' traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// `trace=GROUP,...`: mask of [`kernel_abi::trace::Kind`] bits; 0, nothing, is the default.
    pub kinds: u32,
    /// `trace_records=N`: records in each CPU's ring, 16 to 1048576, rounded up to a power of two.
    pub records: u32,
    /// `trace_mode=stream`: a full ring drops what comes; else (`flight`) the oldest are overwritten.
    pub stream: bool,
    /// `trace_via=serial`: the rings are printed at the end of the run; else (`ram`) the host reads memory.
    pub serial: bool,
}

impl TraceOptions {
    fn from<'a>(raw: &[Option<Token<'a>>; Key::ALL.len()]) -> Result<TraceOptions, CmdlineError<'a>> {
        let one_of = |key: Key, words: [&str; 2]| match raw[key as usize] {
            None => Ok(false),
            Some(value) if value == *words[0] => Ok(false),
            Some(value) if value == *words[1] => Ok(true),
            Some(value) => Err(CmdlineError::BadValue(key, value)),
        };
        Ok(TraceOptions {
            kinds: raw[Key::Trace as usize].map_or(Ok(0), trace_kinds)?,
            records: Key::TraceRecords.number(raw)?.unwrap_or(DEFAULT_TRACE_RECORDS).next_power_of_two(),
            stream: one_of(Key::TraceMode, ["flight", "stream"])?,
            serial: one_of(Key::TraceVia, ["ram", "serial"])?,
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

/// What ring 0 must not do, and the CPU prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Writes to the kernel's text: its page is read-only, and CR0.WP makes that hold.
    WriteText,
    /// Writes to it through the physical map.
    WriteAlias,
    /// Reads ring 3's memory outside of the copy: SMAP.
    ReadUser,
    /// Executes ring 3's memory: SMEP.
    RunUser,
}

impl Breach {
    /// Each with its word.
    pub const ALL: [(&'static str, Breach); 4] = [
        ("write-text", Breach::WriteText),
        ("write-alias", Breach::WriteAlias),
        ("read-user", Breach::ReadUser),
        ("run-user", Breach::RunUser),
    ];

    fn named(value: Token<'_>) -> Result<Breach, CmdlineError<'_>> {
        let found = Breach::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, breach)| breach).ok_or(CmdlineError::BadValue(Key::Breach, value))
    }
}

/// The options' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// See [`Options::program`].
    Program,
    /// See [`Options::tick_hz`].
    TickHz,
    /// See [`Options::panic_cpu`].
    PanicCpu,
    /// See [`Options::overflow_cpu`].
    OverflowCpu,
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
    /// See [`TraceOptions::kinds`].
    Trace,
    /// See [`TraceOptions::records`].
    TraceRecords,
    /// See [`TraceOptions::stream`].
    TraceMode,
    /// See [`TraceOptions::serial`].
    TraceVia,
}

impl Key {
    /// Every key, in the order of their discriminants.
    pub const ALL: [Key; 13] = [
        Key::Program,
        Key::TickHz,
        Key::PanicCpu,
        Key::OverflowCpu,
        Key::Breach,
        Key::LoseAp,
        Key::DelayAp,
        Key::IpiStorm,
        Key::NmiStorm,
        Key::Trace,
        Key::TraceRecords,
        Key::TraceMode,
        Key::TraceVia,
    ];

    /// The word before the `=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Key::Program => "program",
            Key::TickHz => "tick_hz",
            Key::PanicCpu => "panic_cpu",
            Key::OverflowCpu => "overflow_cpu",
            Key::Breach => "breach",
            Key::LoseAp => "lose_ap",
            Key::DelayAp => "delay_ap",
            Key::IpiStorm => "ipi_storm",
            Key::NmiStorm => "nmi_storm",
            Key::Trace => "trace",
            Key::TraceRecords => "trace_records",
            Key::TraceMode => "trace_mode",
            Key::TraceVia => "trace_via",
        }
    }

    /// The numbers that it takes.
    const fn range(self) -> RangeInclusive<u32> {
        match self {
            Key::TickHz => 1..=10_000,
            // The BSP, CPU 0, is not started by another CPU.
            Key::LoseAp | Key::DelayAp => 1..=u32::MAX,
            Key::TraceRecords => 16..=1 << 20,
            Key::IpiStorm | Key::NmiStorm => 0..=100_000,
            Key::PanicCpu | Key::OverflowCpu => 0..=u32::MAX,
            // They take words.
            Key::Program | Key::Breach | Key::Trace | Key::TraceMode | Key::TraceVia => 0..=0,
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

    fn number<'a>(self, raw: &[Option<Token<'a>>; Key::ALL.len()]) -> Result<Option<u32>, CmdlineError<'a>> {
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
            CmdlineError::BadValue(Key::Breach, token) => {
                f.write_str("breach= takes one of")?;
                Breach::ALL.iter().try_for_each(|(word, _)| write!(f, " {word}"))?;
                write!(f, ", not '{token}'")
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

/// One token, or the value part of one. Displays and compares as what it stands for, without its quotes.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    raw: &'a str,
    /// Does `raw` start inside of quotes?
    quoted: bool,
}

impl<'a> Token<'a> {
    /// The characters that it stands for.
    #[must_use]
    pub const fn chars(&self) -> Unescape<'a> {
        Unescape { raw: self.raw, quoted: self.quoted }
    }

    /// The same as UTF-8 bytes.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + Clone + use<'a> {
        self.chars().flat_map(|c| {
            let mut buffer = [0; 4];
            let len = c.encode_utf8(&mut buffer).len();
            buffer.into_iter().take(len)
        })
    }

    /// How many bytes it stands for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chars().map(char::len_utf8).sum()
    }

    /// Does it stand for no bytes at all, as `""` does?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chars().next().is_none()
    }

    /// Writes it to the front of a buffer and returns it as a string; `None` if the buffer is too short.
    pub fn copy_to<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b str> {
        let buffer = buffer.get_mut(..self.len())?;
        buffer.iter_mut().zip(self.bytes()).for_each(|(to, from)| *to = from);
        core::str::from_utf8(buffer).ok()
    }
}

impl PartialEq<str> for Token<'_> {
    fn eq(&self, other: &str) -> bool {
        self.chars().eq(other.chars())
    }
}

impl PartialEq for Token<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.chars().eq(other.chars())
    }
}

impl Eq for Token<'_> {}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.chars().try_for_each(|c| f.write_char(c))
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// The characters that a token stands for.
#[derive(Clone, Debug)]
pub struct Unescape<'a> {
    raw: &'a str,
    quoted: bool,
}

impl<'a> Unescape<'a> {
    const fn token(self) -> Token<'a> {
        Token { raw: self.raw, quoted: self.quoted }
    }
}

impl Iterator for Unescape<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let mut chars = self.raw.chars();
        let next = loop {
            match chars.next() {
                Some('"') => self.quoted = !self.quoted,
                Some('\\') => break chars.next(),
                other => break other,
            }
        };
        self.raw = chars.as_str();
        next
    }
}

/// The tokens of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, CmdlineError<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.0.trim_ascii_start();
        // If the token turns out to be broken, there is no telling where the next one starts.
        self.0 = "";
        let (mut quoted, mut escaped) = (false, false);
        let end = line.bytes().position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            b'"' => {
                quoted = !quoted;
                false
            }
            blank => blank.is_ascii_whitespace() && !quoted,
        });
        if escaped {
            return Some(Err(CmdlineError::TrailingBackslash));
        }
        if quoted {
            return Some(Err(CmdlineError::UnterminatedQuote));
        }
        let (raw, rest) = line.split_at(end.unwrap_or(line.len()));
        self.0 = rest;
        (!raw.is_empty()).then_some(Ok(Token { raw, quoted: false }))
    }
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn args(line: &str) -> Vec<String> {
        let options = Options::parse(line.as_bytes()).unwrap();
        options.program_args().map(|arg| arg.to_string()).collect()
    }

    fn message(line: &[u8]) -> String {
        Options::parse(line).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_line_asks_for_the_defaults() {
        for line in ["", "  \t\n", "--", " -- "] {
            let options = Options::parse(line.as_bytes()).unwrap();
            assert_eq!(options.program, *"selftest");
            assert_eq!(options.tick_hz, 100);
            assert_eq!((options.panic_cpu, options.lose_ap, options.delay_ap), (None, None, None));
            assert_eq!(options.program_args().count(), 0);
        }
    }

    #[test]
    fn every_key_and_arguments() {
        let line =
            br#"program="my \"prog\"" tick_hz=10000 panic_cpu=0 lose_ap=1 "delay_ap=4294967295" -- -x a=b"#;
        let options = Options::parse(line).unwrap();
        assert_eq!(options.program, *"my \"prog\"");
        assert_eq!((options.program.len(), options.tick_hz), (9, 10_000));
        assert_eq!(
            (options.panic_cpu, options.lose_ap, options.delay_ap),
            (Some(0), Some(1), Some(u32::MAX))
        );
        assert!(options.program_args().map(|arg| arg.to_string()).eq(["-x", "a=b"]));
    }

    #[test]
    fn quotes_and_backslashes() {
        let cases: [(&str, &[&str]); 8] = [
            ("-- a  b\tc", &["a", "b", "c"]),
            (r#"-- "a b" c"#, &["a b", "c"]),
            (r#"-- a" "b"" "" """#, &["a b", "", ""]),
            (r"-- a\ b \\ \n", &["a b", r"\", "n"]),
            (r#"-- "a\" b" \""#, &["a\" b", "\""]),
            ("-- -- program=x", &["--", "program=x"]),
            (r#"tick_hz=7 "--" é\é"#, &["éé"]),
            (r"-- \", &[]),
        ];
        for (line, expected) in &cases[..7] {
            assert_eq!(args(line), *expected, "{line}");
        }
        assert_eq!(Options::parse(cases[7].0.as_bytes()), Err(CmdlineError::TrailingBackslash));
    }

    #[test]
    fn errors_name_what_is_wrong_and_what_is_right() {
        let unknown = "unknown option 'tickhz=5'; known are program=, tick_hz=, panic_cpu=, \
                       overflow_cpu=, breach=, lose_ap=, delay_ap=, ipi_storm=, nmi_storm=, trace=, trace_records=, \
                       trace_mode=, trace_via=; \
                       the program's arguments go behind '--'";
        assert_eq!(message(b"tickhz=5"), unknown);
        for line in ["hello", "=", "=5", "program_=x", "\"\"", "progra", "TICK_HZ=5"] {
            assert!(message(line.as_bytes()).starts_with("unknown option '"), "{line}");
        }
        for value in ["0", "10001", "", "x", "+5", "-1", "5 5x", "99999999999", "0x10"] {
            let line = std::format!("tick_hz=\"{value}\"");
            let expected = std::format!("tick_hz= takes a number from 1 to 10000, not '{value}'");
            assert_eq!(message(line.as_bytes()), expected);
        }
        for line in [
            "lose_ap=0",
            "delay_ap=0",
            "panic_cpu=4294967296",
            "panic_cpu",
            "trace=",
            "trace=users",
            "trace=user,",
            "trace_records=8",
            "trace_mode=",
            "trace_via=usb",
            "breach=",
            "breach=read",
        ] {
            assert!(matches!(Options::parse(line.as_bytes()), Err(CmdlineError::BadValue(..))), "{line}");
        }
        assert_eq!(message(b"tick_hz=5 tick_hz=5"), "option tick_hz= is given twice");
        assert_eq!(message(b"program="), "program= takes a program's name, not nothing");
        assert!(message(b"-- \"a").contains("not closed"));
        assert!(message(b"program=\"a").contains("not closed"));
        assert_eq!(message(b"-- \xff"), "the command line is not UTF-8");
    }

    #[test]
    fn a_token_fits_its_buffer_or_not() {
        let options = Options::parse(br"program=\a\bc").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(options.program.copy_to(&mut buffer), Some("abc"));
        assert_eq!(options.program.copy_to(&mut buffer[..2]), None);
    }

    /// What the host tool does with an argument.
    fn quote(arg: &str) -> String {
        std::format!("\"{}\"", arg.replace('\\', "\\\\").replace('"', "\\\""))
    }

    proptest! {
        #[test]
        fn quoted_arguments_come_back(given in prop::collection::vec("\\PC*", 0..6)) {
            let mut line = String::from("tick_hz=5 --");
            for arg in &given {
                line.push(' ');
                line.push_str(&quote(arg));
            }
            prop_assert_eq!(args(&line), given);
        }

        #[test]
        fn never_panics(line: Vec<u8>) {
            let _ = Options::parse(&line).map_err(|e| e.to_string());
        }

        #[test]
        fn never_panics_near_the_grammar(line in "([a-z_]{0,9}=?[\"\\\\ 0-9é-]{0,4}){0,6}") {
            match Options::parse(line.as_bytes()) {
                Ok(options) => for arg in options.program_args() {
                    prop_assert_eq!(arg.bytes().count(), arg.len());
                },
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
