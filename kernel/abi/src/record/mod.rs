//! The completion records: console lines with which the kernel reports the results of a run to the host tool.
//!
//! A record is one line that starts with [`MARK`] in its first column. All output of ring 3 appears after a `[cpuN] `
//! prefix, so no program can forge a record. The fields are `key=value`, separated by one space; a value with spaces is
//! in double quotes. Quotes and control characters never occur inside a value; [`Clean`] replaces them.
//!
//! A complete run prints one [`BootRecord`], one [`CpuRecord`] for each CPU that the firmware lists (including CPUs
//! that did not come online), and finally one [`VerdictRecord`]. [`Record::Dropped`] comes before the verdict if output
//! was dropped. A panic prints a [`MARK`]`panic` line and [`MARK`]`frame` lines with return addresses, innermost first,
//! and then the verdict.

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

/// Displays text as the value of a record: replaces characters that a value must not contain (quotes, backslashes,
/// control characters, non-ASCII) with `?`, and truncates the text to `MAX` characters.
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
    /// The program called `SYS_EXIT`. The record's `code` is the exit code.
    Exited,
    /// The program was killed or could not be loaded. The record's `reason` gives the cause.
    Killed,
    /// The CPU is in the firmware's list but did not come online.
    Missing,
}

impl Outcome {
    const ALL: [Outcome; 3] = [Outcome::Exited, Outcome::Killed, Outcome::Missing];

    /// Returns the name of the outcome in records and in the host tool's JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Exited => "exited",
            Outcome::Killed => "killed",
            Outcome::Missing => "missing",
        }
    }
}

/// A clock that gives the rate of the TSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSource {
    /// CPUID leaf 0x15 reports the rate, from the frequency of the crystal.
    Cpuid,
    /// The high-precision event timer.
    Hpet,
    /// The power-management timer.
    PmTimer,
    /// Channel 2 of the interval timer (8254).
    Pit,
    /// CPUID leaf 0x16 reports the processor's nominal frequency, in MHz.
    Nominal,
}

impl ClockSource {
    /// All clocks, in the order of their discriminants.
    pub const ALL: [ClockSource; 5] =
        [ClockSource::Cpuid, ClockSource::Hpet, ClockSource::PmTimer, ClockSource::Pit, ClockSource::Nominal];

    /// Returns the name of the clock in records and in the host tool's JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ClockSource::Cpuid => "cpuid",
            ClockSource::Hpet => "hpet",
            ClockSource::PmTimer => "pm-timer",
            ClockSource::Pit => "pit",
            ClockSource::Nominal => "cpuid-nominal",
        }
    }
}

impl fmt::Display for ClockSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClockSource::Cpuid => "CPUID leaf 0x15",
            ClockSource::Hpet => "the HPET",
            ClockSource::PmTimer => "the ACPI power-management timer",
            ClockSource::Pit => "the interval timer (PIT)",
            ClockSource::Nominal => "CPUID leaf 0x16",
        })
    }
}

/// The boot record: the machine as the kernel found it and set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootRecord {
    /// The number of CPUs that the MADT lists as enabled, the BSP included.
    pub cpus_found: u32,
    /// The number of CPUs that came online.
    pub cpus_online: u32,
    /// Whether the local APICs are in x2APIC mode.
    pub x2apic: bool,
    /// The requested rate of the timer tick, in hertz.
    pub tick_hz: u32,
    /// The measured frequency of the TSC, in hertz.
    pub tsc_hz: u64,
    /// The measured frequency of the local APIC timer (after its divider), in hertz.
    pub apic_timer_hz: u64,
    /// The clock that gave the frequency of the TSC.
    pub clock: ClockSource,
    /// Usable memory, in KiB.
    pub memory_kib: u64,
    /// The memory that each additional CPU needs, its program's address space included, in KiB.
    pub per_cpu_kib: u64,
    /// The time from the first INIT to the last arrival of a CPU, in nanoseconds; 0 if there is only one CPU.
    pub bring_up_ns: u64,
}

/// The result of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuRecord<'a> {
    /// Dense index; 0 is the BSP.
    pub cpu: u32,
    /// The local APIC id of the CPU.
    pub apic_id: u32,
    /// The name of the program that the CPU ran.
    pub program: &'a str,
    /// How the program ended.
    pub outcome: Outcome,
    /// The code passed to `SYS_EXIT`; 0 unless the outcome is `Exited`.
    pub code: i32,
    /// The number of times that the program was started on this CPU. Outcome, code and reason are those of the last
    /// copy.
    pub starts: u32,
    /// The number of copies that were killed.
    pub killed: u32,
    /// The number of system calls.
    pub syscalls: u64,
    /// The number of timer ticks since the CPU came online.
    pub ticks: u64,
    /// The tick rate in millihertz, measured with the TSC; 0 if there were too few ticks.
    pub tick_millihertz: u64,
    /// The reason why the program was killed or the CPU is missing; empty if the program exited.
    pub reason: &'a str,
}

/// The last record: the result of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictRecord {
    /// The verdict.
    pub verdict: Verdict,
    /// The number of [`CpuRecord`]s before this record.
    pub records: u32,
    /// The number of problems that did not make the run fail, such as a CPU that did not come online.
    pub warnings: u32,
}

impl fmt::Display for BootRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{MARK}boot cpus_found={} cpus_online={} x2apic={} tick_hz={} tsc_hz={} apic_timer_hz={} \
             clock={} memory_kib={} per_cpu_kib={} bring_up_ns={}",
            self.cpus_found,
            self.cpus_online,
            u32::from(self.x2apic),
            self.tick_hz,
            self.tsc_hz,
            self.apic_timer_hz,
            self.clock.name(),
            self.memory_kib,
            self.per_cpu_kib,
            self.bring_up_ns
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

/// The number of calls of each system call on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallsRecord {
    /// Dense index of the CPU.
    pub cpu: u32,
    /// The counts by system-call number. The last element counts calls with a number beyond the table.
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

/// The system calls of one CPU with recording off and with recording on (`trace_alternate=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharesRecord {
    /// Dense index of the CPU.
    pub cpu: u32,
    /// The number of system calls without recording, and the time in which they were made, in nanoseconds.
    pub off: (u64, u64),
    /// The number of system calls with recording, and the time in which they were made, in nanoseconds.
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

/// How often CPUs were taken down and brought back (`cycle=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CyclesRecord {
    /// The number requested.
    pub asked: u32,
    /// The number completed. It is smaller if a CPU did not come back, or if its program failed.
    pub done: u32,
}

impl fmt::Display for CyclesRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}cycles asked={} done={}", self.asked, self.done)
    }
}

/// The registers, tables and stacks of one CPU. Printed if the command line requests it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// Dense index of the CPU.
    pub cpu: u32,
    /// The local APIC id of the CPU.
    pub apic_id: u32,
    /// The values, in the order of [`cpu_state::REGISTERS`].
    pub registers: [u64; cpu_state::COUNT],
}

impl fmt::Display for StateRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The list is in quotes so that a line truncated inside the last number is recognised as incomplete.
        write!(f, "{MARK}state cpu={} apic_id={} registers=\"", self.cpu, self.apic_id)?;
        for (n, value) in self.registers.iter().enumerate() {
            write!(f, "{}{value:#x}", if n == 0 { "" } else { "," })?;
        }
        f.write_str("\"")
    }
}

/// A record of any kind, as parsed from a console line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// See [`BootRecord`].
    Boot(BootRecord),
    /// See [`CpuRecord`].
    Cpu(CpuRecord<'a>),
    /// A panic: the CPU and the message.
    Panic {
        /// Dense index of the CPU; `None` if the kernel did not know it yet.
        cpu: Option<u32>,
        /// The panic message, truncated to [`Clean::MAX`] characters.
        message: &'a str,
    },
    /// One return address of a panic's backtrace.
    Frame {
        /// The return address, in the kernel image.
        ip: u64,
    },
    /// See [`CallsRecord`].
    Calls(CallsRecord),
    /// See [`SharesRecord`].
    Shares(SharesRecord),
    /// See [`CyclesRecord`].
    Cycles(CyclesRecord),
    /// See [`StateRecord`].
    State(StateRecord),
    /// A report of output that was dropped because the UART did not become ready in time.
    Dropped {
        /// Dense index of the CPU that printed the output; `None` for records and for messages that do not concern a
        /// CPU.
        cpu: Option<u32>,
        /// The number of bytes dropped.
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
            Record::Cycles(record) => record.fmt(f),
            Record::State(record) => record.fmt(f),
            Record::Verdict(record) => record.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
