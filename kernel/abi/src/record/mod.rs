//! The completion records: console lines by which the kernel reports to the host tool, in band, what happened.
//!
//! A record is one line that starts with [`MARK`] in its first column. Whatever ring 3 writes appears after
//! a `[cpuN] ` prefix, so no program can forge one. The fields are `key=value`, separated by one space; a
//! value with spaces is in double quotes. Neither quotes nor control characters occur inside a value: see
//! [`Clean`].
//!
//! A complete run prints one [`BootRecord`], one [`CpuRecord`] per CPU that the firmware lists (a CPU that
//! did not come online has one too), and last one [`VerdictRecord`]. [`Record::Dropped`] comes before the verdict if output was
//! dropped. A panic prints a [`MARK`]`panic` line and
//! [`MARK`]`frame` lines with return addresses, innermost first, and then the verdict.

mod parse;

use core::fmt;

#[cfg(feature = "trace")]
pub(crate) use self::parse::Fields;
pub use self::parse::{Malformed, parse};
use crate::cpu_state;
use crate::syscall::TABLE_LEN;
use crate::verdict::Verdict;

/// The first characters of every record.
pub const MARK: &str = "@ringside ";

/// Prints text with the characters that a record's value may not contain (quotes, backslashes, control characters,
/// non-ASCII) replaced by `?`, at most `MAX` characters of it.
pub struct Clean<'a>(pub &'a str);

impl Clean<'_> {
    /// The maximum number of characters in a value.
    pub const MAX: usize = 200;
}

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars().take(Self::MAX) {
            let allowed = (c == ' ' || c.is_ascii_graphic()) && c != '"' && c != '\\';
            f.write_char(if allowed { c } else { '?' })?;
        }
        Ok(())
    }
}

/// How a CPU's program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It called `SYS_EXIT`; see the record's code.
    Exited,
    /// It faulted, or could not be loaded; see the record's reason.
    Killed,
    /// The CPU is in the firmware's list but did not come online.
    Missing,
}

impl Outcome {
    const ALL: [Outcome; 3] = [Outcome::Exited, Outcome::Killed, Outcome::Missing];

    /// Returns its name in records and in the host tool's JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Exited => "exited",
            Outcome::Killed => "killed",
            Outcome::Missing => "missing",
        }
    }
}

/// What the kernel found and set up at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootRecord {
    /// CPUs that the MADT lists as enabled, the BSP included.
    pub cpus_found: u32,
    /// CPUs that came online.
    pub cpus_online: u32,
    /// Whether the local APICs are in x2APIC mode.
    pub x2apic: bool,
    /// The requested timer tick, in hertz.
    pub tick_hz: u32,
    /// Frequency of the time-stamp counter, measured, in hertz.
    pub tsc_hz: u64,
    /// Frequency at which the local APIC timer counts (after its divider), measured, in hertz.
    pub apic_timer_hz: u64,
    /// Usable memory, in KiB.
    pub memory_kib: u64,
    /// Memory that one more CPU costs, its program's address space included, in KiB.
    pub per_cpu_kib: u64,
}

/// The result of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuRecord<'a> {
    /// Dense index; 0 is the BSP.
    pub cpu: u32,
    /// Its local APIC id.
    pub apic_id: u32,
    /// The program it ran.
    pub program: &'a str,
    /// How the program ended.
    pub outcome: Outcome,
    /// The code given to `SYS_EXIT`; 0 unless `Exited`.
    pub code: i32,
    /// Number of starts of the program on this CPU; outcome, code and reason are those of the last copy.
    pub starts: u32,
    /// Number of these copies that were killed.
    pub killed: u32,
    /// System calls that entered the kernel.
    pub syscalls: u64,
    /// Timer ticks since the CPU came online.
    pub ticks: u64,
    /// Tick rate measured by a second clock, in thousandths of a hertz; 0 if there were too few ticks.
    pub tick_millihertz: u64,
    /// Why it was killed or is missing; empty if it exited.
    pub reason: &'a str,
}

/// The last line: the result of the complete run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictRecord {
    /// The outcome.
    pub verdict: Verdict,
    /// Number of [`CpuRecord`]s before it.
    pub records: u32,
    /// Problems that did not make the run fail, such as a CPU that did not come online.
    pub warnings: u32,
}

impl fmt::Display for BootRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{MARK}boot cpus_found={} cpus_online={} x2apic={} tick_hz={} tsc_hz={} apic_timer_hz={} \
             memory_kib={} per_cpu_kib={}",
            self.cpus_found,
            self.cpus_online,
            u32::from(self.x2apic),
            self.tick_hz,
            self.tsc_hz,
            self.apic_timer_hz,
            self.memory_kib,
            self.per_cpu_kib
        )
    }
}

impl fmt::Display for CpuRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{MARK}cpu cpu={} apic_id={} program=\"{}\" outcome={} code={} starts={} killed={} syscalls={} \
             ticks={} tick_millihertz={} reason=\"{}\"",
            self.cpu,
            self.apic_id,
            Clean(self.program),
            self.outcome.name(),
            self.code,
            self.starts,
            self.killed,
            self.syscalls,
            self.ticks,
            self.tick_millihertz,
            Clean(self.reason)
        )
    }
}

impl fmt::Display for VerdictRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{MARK}verdict outcome={} records={} warnings={}",
            self.verdict.name(),
            self.records,
            self.warnings
        )
    }
}

/// Number of entries of each system call on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallsRecord {
    /// Dense index of the CPU.
    pub cpu: u32,
    /// By number; the last element counts all numbers beyond the table.
    pub counts: [u64; TABLE_LEN + 1],
}

impl fmt::Display for CallsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}calls cpu={} counts=", self.cpu)?;
        for (n, count) in self.counts.iter().enumerate() {
            write!(f, "{}{count}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The system calls of one CPU with its trace switched off and on: `trace_alternate=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharesRecord {
    /// Dense index of the CPU.
    pub cpu: u32,
    /// System calls without recording, and the nanoseconds in which they were made.
    pub off: (u64, u64),
    /// The same with recording.
    pub on: (u64, u64),
}

impl fmt::Display for SharesRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SharesRecord { cpu, off, on } = self;
        write!(
            f,
            "{MARK}shares cpu={cpu} off_calls={} off_ns={} on_calls={} on_ns={}",
            off.0, off.1, on.0, on.1
        )
    }
}

/// One CPU's registers, tables and stacks, if the command line asked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// Dense index of the CPU.
    pub cpu: u32,
    /// Its local APIC id.
    pub apic_id: u32,
    /// In the order of [`cpu_state::REGISTERS`].
    pub registers: [u64; cpu_state::COUNT],
}

impl fmt::Display for StateRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In quotes, so that a line that is cut off inside the last number is recognised as incomplete.
        write!(f, "{MARK}state cpu={} apic_id={} registers=\"", self.cpu, self.apic_id)?;
        for (n, value) in self.registers.iter().enumerate() {
            write!(f, "{}{value:#x}", if n == 0 { "" } else { "," })?;
        }
        f.write_str("\"")
    }
}

/// A record, parsed from a console line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// See [`BootRecord`].
    Boot(BootRecord),
    /// See [`CpuRecord`].
    Cpu(CpuRecord<'a>),
    /// The CPU that panicked, and the message.
    Panic {
        /// Dense index of the CPU; `None` if it was not known yet.
        cpu: Option<u32>,
        /// The panic message, cut to [`Clean::MAX`] characters.
        message: &'a str,
    },
    /// One return address of a panic's backtrace.
    Frame {
        /// The address in the kernel's image.
        ip: u64,
    },
    /// See [`CallsRecord`].
    Calls(CallsRecord),
    /// See [`SharesRecord`].
    Shares(SharesRecord),
    /// See [`StateRecord`].
    State(StateRecord),
    /// Output that was dropped, because the UART did not get ready in time.
    Dropped {
        /// Dense index of the CPU that printed it; `None` for the kernel's records and messages about no CPU.
        cpu: Option<u32>,
        /// How many bytes.
        bytes: u64,
    },
    /// See [`VerdictRecord`].
    Verdict(VerdictRecord),
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Boot(record) => record.fmt(f),
            Record::Cpu(record) => record.fmt(f),
            Record::Panic { cpu: Some(cpu), message } => {
                write!(f, "{MARK}panic cpu={cpu} message=\"{}\"", Clean(message))
            }
            Record::Panic { cpu: None, message } => {
                write!(f, "{MARK}panic cpu=unknown message=\"{}\"", Clean(message))
            }
            Record::Frame { ip } => write!(f, "{MARK}frame ip={ip:#x}"),
            Record::Dropped { cpu: Some(cpu), bytes } => write!(f, "{MARK}dropped cpu={cpu} bytes={bytes}"),
            Record::Dropped { cpu: None, bytes } => write!(f, "{MARK}dropped cpu=none bytes={bytes}"),
            Record::Calls(record) => record.fmt(f),
            Record::Shares(record) => record.fmt(f),
            Record::State(record) => record.fmt(f),
            Record::Verdict(record) => record.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
