//! The parser of completion records.

use core::fmt;

use super::{
    BootRecord, CallsRecord, ClockSource, CpuRecord, CyclesRecord, MARK, Outcome, Record, SharesRecord,
    StateRecord, VerdictRecord,
};
use crate::verdict::Verdict;

/// The error if a line starts with the mark of a record but is not a valid record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a completion record is truncated, garbled, or of another version")
    }
}

impl core::error::Error for Malformed {}

/// Parses a console line without its newline. Returns `None` if the line is not a record.
///
/// # Errors
/// [`Malformed`] if the line starts like a record but cannot be parsed completely.
pub fn parse(line: &str) -> Option<Result<Record<'_>, Malformed>> {
    let body = line.strip_prefix(MARK)?;
    let (kind, fields) = body.split_once(' ').unwrap_or((body, ""));
    Some(parse_kind(kind, Fields(fields)).ok_or(Malformed))
}

fn parse_kind<'a>(kind: &str, mut fields: Fields<'a>) -> Option<Record<'a>> {
    let record = match kind {
        "boot" => Record::Boot(BootRecord {
            cpus_found: fields.number("cpus_found")?,
            cpus_online: fields.number("cpus_online")?,
            x2apic: fields.number::<u32>("x2apic")? != 0,
            tick_hz: fields.number("tick_hz")?,
            tsc_hz: fields.number("tsc_hz")?,
            apic_timer_hz: fields.number("apic_timer_hz")?,
            clock: {
                let name = fields.text("clock")?;
                ClockSource::ALL.into_iter().find(|clock| clock.name() == name)?
            },
            memory_kib: fields.number("memory_kib")?,
            per_cpu_kib: fields.number("per_cpu_kib")?,
            bring_up_ns: fields.number("bring_up_ns")?,
        }),
        "cpu" => Record::Cpu(CpuRecord {
            cpu: fields.number("cpu")?,
            apic_id: fields.number("apic_id")?,
            program: fields.text("program")?,
            outcome: {
                let name = fields.text("outcome")?;
                Outcome::ALL.into_iter().find(|outcome| outcome.name() == name)?
            },
            code: fields.number("code")?,
            starts: fields.number("starts")?,
            killed: fields.number("killed")?,
            syscalls: fields.number("syscalls")?,
            ticks: fields.number("ticks")?,
            tick_millihertz: fields.number("tick_millihertz")?,
            reason: fields.text("reason")?,
        }),
        "panic" => Record::Panic {
            cpu: match fields.text("cpu")? {
                "unknown" => None,
                number => Some(number.parse().ok()?),
            },
            message: fields.text("message")?,
        },
        "frame" => Record::Frame { ip: hexadecimal(fields.text("ip")?)? },
        "calls" => Record::Calls(CallsRecord {
            cpu: fields.number("cpu")?,
            counts: fields.list("counts", |word| word.parse().ok())?,
        }),
        "state" => Record::State(StateRecord {
            cpu: fields.number("cpu")?,
            apic_id: fields.number("apic_id")?,
            registers: fields.list("registers", hexadecimal)?,
        }),
        "cycles" => {
            Record::Cycles(CyclesRecord { asked: fields.number("asked")?, done: fields.number("done")? })
        }
        "shares" => Record::Shares(SharesRecord {
            cpu: fields.number("cpu")?,
            off: (fields.number("off_calls")?, fields.number("off_ns")?),
            on: (fields.number("on_calls")?, fields.number("on_ns")?),
        }),
        "dropped" => Record::Dropped {
            cpu: match fields.text("cpu")? {
                "none" => None,
                number => Some(number.parse().ok()?),
            },
            bytes: fields.number("bytes")?,
        },
        "verdict" => Record::Verdict(VerdictRecord {
            verdict: Verdict::from_name(fields.text("outcome")?)?,
            records: fields.number("records")?,
            warnings: fields.number("warnings")?,
        }),
        _ => return None,
    };
    // A line with excess fields is not a valid record.
    fields.0.is_empty().then_some(record)
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// The remaining fields of a record, which are parsed in a fixed order.
pub(crate) struct Fields<'a>(pub(crate) &'a str);

impl<'a> Fields<'a> {
    pub(crate) fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = self.0.strip_prefix(key)?.strip_prefix('=')?;
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None if value.is_empty() => return None,
            None => value.split_at(value.find(' ').unwrap_or(value.len())),
        };
        self.0 = match rest.strip_prefix(' ') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
        Some(value)
    }

    /// Parses a comma-separated list of numbers.
    fn list<const N: usize>(&mut self, key: &str, read: impl Fn(&str) -> Option<u64>) -> Option<[u64; N]> {
        let mut words = self.text(key)?.split(',');
        let mut values = [0; N];
        for value in &mut values {
            *value = read(words.next()?)?;
        }
        words.next().is_none().then_some(values)
    }

    pub(crate) fn number<T: core::str::FromStr>(&mut self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }
}
