//! The command-line keys, and the values that each accepts.
#![forbid(unsafe_code)]

use core::ops::RangeInclusive;

use super::{CmdlineError, Token};
#[cfg(doc)]
use super::{Failures, Options, TraceOptions};
#[cfg(doc)]
use crate::repeat::Repeat;

/// The unparsed values in the command line, by key.
pub(super) type RawValues<'a> = [Option<Token<'a>>; Key::ALL.len()];

/// The keys of the options.
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
    /// See [`Options::stray_interrupts`].
    StrayInterrupts,
    /// See [`Options::dump_cpus`].
    DumpCpus,
    /// See [`Options::breach`].
    Breach,
    /// See [`Options::without`].
    Without,
    /// See [`Options::floor`].
    Floor,
    /// See [`Options::uart_fault`].
    UartFault,
    /// See [`Options::firmware_fault`].
    FirmwareFault,
    /// See [`Options::finish`].
    Verdict,
    /// See [`Options::lose_ap`].
    LoseAp,
    /// See [`Options::delay_ap`].
    DelayAp,
    /// See [`Options::stale_ap`].
    StaleAp,
    /// See [`Options::die_ap`].
    DieAp,
    /// See [`Options::die_in`].
    DieIn,
    /// See [`Options::resend_ap`].
    ResendAp,
    /// See [`Options::early_ap`].
    EarlyAp,
    /// See [`Options::cycle`].
    Cycle,
    /// See [`Options::ipi_storm`].
    IpiStorm,
    /// See [`Options::nmi_storm`].
    NmiStorm,
    /// See [`Options::own_uarts`].
    Serial,
    /// See [`Repeat::rounds`].
    Repeat,
    /// See [`Repeat::continue_after_kill`].
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
    /// All keys, in the order of their discriminants.
    pub const ALL: [Key; 34] = [
        Key::Program,
        Key::TickHz,
        Key::PanicCpu,
        Key::OverflowCpu,
        Key::DoubleFaultCpu,
        Key::FailIn,
        Key::NestNmi,
        Key::StrayInterrupts,
        Key::DumpCpus,
        Key::Breach,
        Key::Without,
        Key::Floor,
        Key::UartFault,
        Key::FirmwareFault,
        Key::Verdict,
        Key::LoseAp,
        Key::DelayAp,
        Key::StaleAp,
        Key::DieAp,
        Key::DieIn,
        Key::ResendAp,
        Key::EarlyAp,
        Key::Cycle,
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

    /// Returns the key's name, which precedes the `=`.
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
            Key::StrayInterrupts => "stray_interrupts",
            Key::DumpCpus => "dump_cpus",
            Key::Breach => "breach",
            Key::Without => "without",
            Key::Floor => "floor",
            Key::UartFault => "uart_fault",
            Key::FirmwareFault => "firmware_fault",
            Key::Verdict => "verdict",
            Key::LoseAp => "lose_ap",
            Key::DelayAp => "delay_ap",
            Key::StaleAp => "stale_ap",
            Key::DieAp => "die_ap",
            Key::DieIn => "die_in",
            Key::ResendAp => "resend_ap",
            Key::EarlyAp => "early_ap",
            Key::Cycle => "cycle",
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

    /// Returns the range of numbers that the key accepts.
    pub(super) const fn range(self) -> RangeInclusive<u32> {
        match self {
            Key::TickHz => 1..=10_000,
            // CPU 0, the BSP, is not started by another CPU.
            Key::LoseAp | Key::DelayAp | Key::StaleAp | Key::DieAp | Key::ResendAp | Key::EarlyAp => {
                1..=u32::MAX
            }
            Key::Floor => 1..=2,
            Key::TraceRecords => 16..=1 << 20,
            Key::TraceAlternate => 0..=60_000,
            Key::Repeat | Key::Cycle => 1..=1_000_000_000,
            Key::IpiStorm | Key::NmiStorm => 0..=100_000,
            _ => 0..=u32::MAX,
        }
    }

    /// Splits a token at its first `=` into key and value.
    pub(super) fn split(token: Token<'_>) -> Result<(Key, Token<'_>), CmdlineError<'_>> {
        let mut value = token.chars();
        let key_len: usize = value.by_ref().take_while(|&c| c != '=').map(char::len_utf8).sum();
        let is_key = |key: &Key| token.bytes().take(key_len).eq(key.name().bytes());
        let key = Key::ALL.into_iter().find(is_key).ok_or(CmdlineError::UnknownKey(token))?;
        Ok((key, value.token()))
    }

    /// Parses a value that must be one of two words. Returns whether it is the second word; the first is the default.
    pub(super) fn one_of<'a>(self, raw: &RawValues<'a>, words: [&str; 2]) -> Result<bool, CmdlineError<'a>> {
        match raw[self as usize] {
            None => Ok(false),
            Some(value) if value == *words[0] => Ok(false),
            Some(value) if value == *words[1] => Ok(true),
            Some(value) => Err(CmdlineError::BadValue(self, value)),
        }
    }

    pub(super) fn number<'a>(self, raw: &RawValues<'a>) -> Result<Option<u32>, CmdlineError<'a>> {
        let Some(token) = raw[self as usize] else { return Ok(None) };
        let digits =
            token.chars().try_fold(0_u32, |number, c| number.checked_mul(10)?.checked_add(c.to_digit(10)?));
        match digits {
            Some(number) if !token.is_empty() && self.range().contains(&number) => Ok(Some(number)),
            _ => Err(CmdlineError::BadValue(self, token)),
        }
    }
}
