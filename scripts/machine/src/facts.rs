//! Collects the completion records of a run from its console.

use kernel_abi::record::{
    self, BootRecord, CallsRecord, CpuRecord, CyclesRecord, Outcome, Record, SharesRecord, StateRecord,
    VerdictRecord,
};
use trace::console::Console;

use crate::console::{boot_failure, precedes_the_kernel};
use crate::directory::IncompleteLine;

/// An owned copy of a [`CpuRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Dense index of the CPU; 0 is the BSP.
    pub cpu: u32,
    /// The local APIC ID.
    pub apic_id: u32,
    /// The program that the CPU ran.
    pub program: String,
    /// How the program ended.
    pub outcome: Outcome,
    /// The exit code passed to `SYS_EXIT`.
    pub code: i32,
    /// Number of times the program was started.
    pub starts: u32,
    /// Number of copies of the program that were killed.
    pub killed: u32,
    /// Number of system calls that entered the kernel.
    pub syscalls: u64,
    /// Number of timer ticks since the CPU came online.
    pub ticks: u64,
    /// Tick rate in thousandths of a hertz, or 0 if there were too few ticks to measure it.
    pub tick_millihertz: u64,
    /// The reason why the program was killed or the CPU is missing.
    pub reason: String,
    /// The program's function and source line at which it was killed, if its ELF file names them.
    pub place: Option<String>,
}

impl Cpu {
    /// Returns the tick rate in hertz, if there were enough ticks to measure it.
    pub fn tick_hz(&self) -> Option<f64> {
        (self.tick_millihertz != 0).then(|| self.tick_millihertz as f64 / 1000.0)
    }
}

impl From<CpuRecord<'_>> for Cpu {
    fn from(record: CpuRecord<'_>) -> Cpu {
        Cpu {
            cpu: record.cpu,
            apic_id: record.apic_id,
            program: record.program.to_owned(),
            outcome: record.outcome,
            code: record.code,
            starts: record.starts,
            killed: record.killed,
            syscalls: record.syscalls,
            ticks: record.ticks,
            tick_millihertz: record.tick_millihertz,
            reason: record.reason.to_owned(),
            place: None,
        }
    }
}

/// All records of a run, by kind. Records of the same kind are in the order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Boot records; a valid run has exactly one.
    pub boots: Vec<BootRecord>,
    /// One record per CPU.
    pub cpus: Vec<Cpu>,
    /// Counts of system calls: one record per online CPU.
    pub calls: Vec<CallsRecord>,
    /// Register state: one record per CPU, if requested.
    pub states: Vec<StateRecord>,
    /// The CPU and the message of each panic.
    pub panics: Vec<(Option<u32>, String)>,
    /// Number of frames in the panic backtrace.
    pub frames: usize,
    /// Bytes of output that were dropped: by CPU, or of the kernel's records.
    pub dropped: Vec<(Option<u32>, u64)>,
    /// System-call counts with and without recording: one record per CPU, if recording alternated between on and off.
    pub shares: Vec<SharesRecord>,
    /// The number of cycles in which a CPU left the run and came back, if cycles were requested.
    pub cycles: Option<CyclesRecord>,
    /// The trace, if it was sent over the console.
    pub trace: Console,
    /// Verdicts; a valid run has exactly one.
    pub verdicts: Vec<VerdictRecord>,
    /// Number of records after the first verdict. A verdict must be the last record, so a valid run has none.
    pub late: usize,
    /// Lines that begin like a record but cannot be parsed as one.
    pub malformed: Vec<String>,
    /// Total number of console lines.
    pub lines: usize,
    /// The kernel's warnings, at most [`WARNINGS_MAX`].
    pub warnings: Vec<String>,
    /// The kernel's reason for rejecting its command line.
    pub refusal: Option<String>,
    /// Whether the kernel has printed a line.
    pub started: bool,
    /// The reason why the kernel did not start.
    pub not_booted: Option<String>,
    /// The lines that were incomplete when the run ended, so the kernel has not printed them.
    pub incomplete: Vec<IncompleteLine>,
}

impl Facts {
    /// Returns whether no record has arrived, not even in part.
    pub fn has_no_record(&self) -> bool {
        let Facts { boots, cpus, calls, states, panics, dropped, verdicts, malformed, .. } = self;
        boots.is_empty()
            && cpus.is_empty()
            && calls.is_empty()
            && states.is_empty()
            && panics.is_empty()
            && dropped.is_empty()
            && verdicts.is_empty()
            && malformed.is_empty()
    }
}

/// The maximum number of warnings that are kept.
const WARNINGS_MAX: usize = 100;

/// How to show a console line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line of the firmware or of a loader, before the kernel's first line.
    Early,
    /// Text to show unchanged.
    Text,
    /// A record that the results table shows, or a line of a trace.
    Counted,
    /// A panic: the CPU and the message.
    Panic(Option<u32>, String),
    /// A frame of the panic backtrace: its number and its address.
    Frame(usize, u64),
}

impl Facts {
    /// Processes a console line without its newline.
    pub fn take(&mut self, line: &[u8]) -> Line {
        self.lines += 1;
        if !self.started && precedes_the_kernel(line) {
            self.not_booted = self.not_booted.take().or_else(|| boot_failure(line));
            return Line::Early;
        }
        self.started = true;
        if !line.starts_with(record::MARK.as_bytes()) {
            self.take_message(line);
            return Line::Text;
        }
        if !self.verdicts.is_empty() {
            self.late += 1;
        }
        if self.trace.take(line) {
            return Line::Counted;
        }
        let text = String::from_utf8_lossy(line);
        match record::parse(&text) {
            None => Line::Text,
            Some(Err(_)) => {
                self.malformed.push(text.clone().into_owned());
                Line::Text
            }
            Some(Ok(record)) => self.count(record),
        }
    }

    /// Stores a message of the kernel, if it gives a reason that the records do not contain. A program can imitate such
    /// a message.
    fn take_message(&mut self, line: &[u8]) {
        const PREFIX: &str = "] ringside: ";
        let Some(start) = line.windows(PREFIX.len()).take(16).position(|part| part == PREFIX.as_bytes())
        else {
            return;
        };
        let message = String::from_utf8_lossy(&line[start + PREFIX.len()..]);
        if let Some(warning) = message.strip_prefix("warning: ")
            && self.warnings.len() < WARNINGS_MAX
        {
            self.warnings.push(warning.to_owned());
        } else if let Some(reason) = message.strip_prefix("command line: ") {
            self.refusal.get_or_insert_with(|| reason.to_owned());
        }
    }

    fn count(&mut self, record: Record<'_>) -> Line {
        match record {
            Record::Boot(boot) => self.boots.push(boot),
            Record::Cpu(cpu) => self.cpus.push(cpu.into()),
            Record::Calls(calls) => self.calls.push(calls),
            Record::Shares(shares) => self.shares.push(shares),
            Record::Cycles(cycles) => self.cycles = Some(cycles),
            Record::State(state) => self.states.push(state),
            Record::Dropped { cpu, bytes } => self.dropped.push((cpu, bytes)),
            Record::Verdict(verdict) => self.verdicts.push(verdict),
            Record::Panic { cpu, message } => {
                self.panics.push((cpu, message.to_owned()));
                return Line::Panic(cpu, message.to_owned());
            }
            Record::Frame { ip } => {
                self.frames += 1;
                return Line::Frame(self.frames - 1, ip);
            }
        }
        Line::Counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_mark_must_be_in_the_first_column() {
        let mut facts = Facts::default();
        assert_eq!(facts.take(b"[cpu0] @ringside frame ip=0x1"), Line::Text);
        assert_eq!(facts.take(b"@ringside frame ip=0x1"), Line::Frame(0, 1));
        assert_eq!(facts.take(b"@ringside frame ip=0x"), Line::Text);
        assert_eq!(facts.take(b"@ringside \xff"), Line::Text);
        assert_eq!((facts.frames, facts.malformed.len(), facts.lines), (1, 2, 4));
    }

    #[test]
    fn lines_of_the_firmware_precede_those_of_the_kernel() {
        let mut facts = Facts::default();
        for line in [&b"\x1b[2J"[..], b"BdsDxe: loading x", b"", b"[loader] ringside: starting the kernel"] {
            assert_eq!(facts.take(line), Line::Early);
        }
        assert_eq!(facts.take(b"[cpu0] ringside: x"), Line::Text);
        for line in [&b"\x1b[2J"[..], b"BdsDxe: loading x", b"", b"[loader] ringside: cannot start: x"] {
            assert_eq!(facts.take(line), Line::Text, "after the kernel's first line");
        }
        assert_eq!(facts.not_booted, None);
        let mut facts = Facts::default();
        assert_eq!(facts.take(b"[loader] ringside: cannot start: why"), Line::Early);
        assert_eq!(facts.not_booted.as_deref(), Some("why"));
    }

    #[test]
    fn warnings_and_refusal_are_kept_without_their_prefix() {
        let mut facts = Facts::default();
        facts.take(b"[cpu0] ringside: warning: 2 CPUs have APIC ids that cannot be addressed");
        facts.take(b"[cpu0] ringside: command line: unknown key 'colour'");
        facts.take(b"[cpu1000] ringside: warning: another");
        facts.take(b"[cpu0] text with [cpu0] ringside: warning: in the middle");
        (0..WARNINGS_MAX).for_each(|_| drop(facts.take(b"[cpu0] ringside: warning: again")));
        assert_eq!(facts.warnings[..2], ["2 CPUs have APIC ids that cannot be addressed", "another"]);
        assert_eq!(facts.warnings.len(), WARNINGS_MAX);
        assert_eq!(facts.refusal.as_deref(), Some("unknown key 'colour'"));
    }

    #[test]
    fn records_after_the_verdict_are_counted_as_late() {
        let mut facts = Facts::default();
        facts.take(b"@ringside verdict outcome=pass records=0 warnings=0");
        facts.take(b"plain text");
        facts.take(b"@ringside frame ip=0x1");
        assert_eq!(facts.late, 1);
    }
}
