//! Formats the completion records as a human-readable table, which has the columns of the host tool's table.

use kernel_abi::record::{BootRecord, Clean, CpuRecord, Outcome, Record, VerdictRecord};
use kernel_abi::verdict::Verdict;

use super::cells::Colour;
use crate::plural::{Count, verb};
use crate::text::Text;

/// The longest text for a record, in bytes.
pub const SHOWN_MAX: usize = 400;

/// The rows of a screen that are not for CPUs: the boot record, the heading, the verdict, and some context.
const OTHER_ROWS: usize = 12;

/// The results so far.
#[derive(Clone, Copy, Debug)]
pub struct Results {
    /// The number of CPUs whose records have been received.
    cpus: usize,
    /// The number of CPUs whose program exited with code 0.
    good: usize,
    /// The number of the CPUs counted in `good` that have no line in the table.
    hidden: usize,
    /// The number of CPUs that get a line in the table even if their program exited with code 0.
    room: usize,
}

impl Results {
    /// Creates an empty table for a screen with this number of rows.
    #[must_use]
    pub const fn new(rows: usize) -> Results {
        Results { cpus: 0, good: 0, hidden: 0, room: rows.saturating_sub(OTHER_ROWS) }
    }

    /// Returns the text for a record. Returns `None` for a record that is only for the host tool, and for the record of
    /// a CPU without a problem if the screen has no room for it.
    pub fn take(&mut self, record: &Record<'_>) -> Option<(Text<SHOWN_MAX>, Colour)> {
        let bad = |text| Some((text, Colour::Bad));
        match record {
            Record::Boot(boot) => Some((heading(boot), Colour::Text)),
            Record::Cpu(cpu) => {
                let is_good = (cpu.outcome, cpu.code) == (Outcome::Exited, 0);
                self.cpus += 1;
                self.good += usize::from(is_good);
                if is_good && self.cpus > self.room {
                    self.hidden += 1;
                    return None;
                }
                Some((line(cpu), if is_good { Colour::Text } else { Colour::Bad }))
            }
            Record::Panic { cpu: Some(cpu), message } => {
                bad(Text::of(format_args!("kernel panic on CPU {cpu}: {}", Clean(message))))
            }
            Record::Panic { cpu: None, message } => {
                bad(Text::of(format_args!("kernel panic: {}", Clean(message))))
            }
            Record::Frame { ip } => bad(Text::of(format_args!("  called from {ip:#x}"))),
            Record::Dropped { cpu, bytes } => {
                let output = cpu.map_or(Text::<32>::of(format_args!("output")), |cpu| {
                    Text::of(format_args!("CPU {cpu}'s output"))
                });
                let verb = verb(*bytes, "was", "were");
                bad(Text::of(format_args!("{} of {} {verb} dropped", Count(*bytes, "byte"), output.as_str())))
            }
            Record::Verdict(verdict) => Some(self.verdict(verdict)),
            Record::Calls(_) | Record::Shares(_) | Record::Cycles(_) | Record::State(_) => None,
        }
    }

    fn verdict(&self, record: &VerdictRecord) -> (Text<SHOWN_MAX>, Colour) {
        let rest = match self.hidden {
            0 => Text::<96>::new(),
            hidden => Text::of(format_args!(
                "and {} whose program exited with code 0\n",
                Count(hidden as u64, "more CPU")
            )),
        };
        let counts = match self.cpus {
            0 => Text::<96>::new(),
            cpus => Text::of(format_args!(
                ": {} of {} exited with code 0, {}",
                self.good,
                Count(cpus as u64, "CPU"),
                Count(record.warnings.into(), "warning")
            )),
        };
        let colour = if record.verdict == Verdict::Pass { Colour::Good } else { Colour::Bad };
        (Text::of(format_args!("{}\n{}{}", rest.as_str(), record.verdict.name(), counts.as_str())), colour)
    }
}

/// Returns the boot record as text, and the heading of the table.
fn heading(boot: &BootRecord) -> Text<SHOWN_MAX> {
    let mhz = |hz: u64| Text::<24>::of(format_args!("{}.{:03}", hz / 1_000_000, hz / 1000 % 1000));
    Text::of(format_args!(
        "\n{} of {} online, {}, tick {} Hz, APIC timer {} MHz, TSC {} MHz,\nmemory {} MiB, {} KiB per CPU\n\n{}",
        boot.cpus_online,
        Count(boot.cpus_found.into(), "CPU"),
        if boot.x2apic { "x2APIC" } else { "xAPIC" },
        boot.tick_hz,
        mhz(boot.apic_timer_hz).as_str(),
        mhz(boot.tsc_hz).as_str(),
        boot.memory_kib / 1024,
        boot.per_cpu_kib,
        HEADING
    ))
}

const HEADING: &str = " CPU   APIC  PROGRAM       OUTCOME   CODE     SYSCALLS     TICKS      HZ  REASON";

/// Returns a CPU's line in the table.
fn line(cpu: &CpuRecord<'_>) -> Text<SHOWN_MAX> {
    let none = || Text::<24>::of(format_args!("-"));
    let code = if cpu.outcome == Outcome::Exited { Text::of(format_args!("{}", cpu.code)) } else { none() };
    let rate = match cpu.tick_millihertz {
        0 => none(),
        // In hundredths of a hertz, rounded as in the host tool's table.
        rate => {
            let rate = rate.saturating_add(5) / 10;
            Text::of(format_args!("{}.{:02}", rate / 100, rate % 100))
        }
    };
    // A value of the record, without characters that would break the table.
    let program = Text::<12>::of(format_args!("{}", Clean(cpu.program)));
    Text::of(format_args!(
        "{:>4}  {:>5}  {:<12}  {:<8}  {:>4}  {:>11}  {:>8}  {:>6}  {}",
        cpu.cpu,
        cpu.apic_id,
        program.as_str(),
        cpu.outcome.name(),
        code.as_str(),
        cpu.syscalls,
        cpu.ticks,
        rate.as_str(),
        Clean(cpu.reason)
    ))
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use kernel_abi::record::ClockSource;

    use super::*;

    const BOOT: BootRecord = BootRecord {
        cpus_found: 4,
        cpus_online: 3,
        x2apic: true,
        tick_hz: 100,
        tsc_hz: 2_994_370_111,
        apic_timer_hz: 62_500_999,
        clock: ClockSource::Hpet,
        memory_kib: 120_000,
        per_cpu_kib: 340,
        bring_up_ns: 12_300_000,
    };

    const CPU: CpuRecord<'_> = CpuRecord {
        cpu: 12,
        apic_id: 24,
        program: "hello",
        outcome: Outcome::Exited,
        code: 0,
        starts: 1,
        killed: 0,
        syscalls: 17,
        ticks: 42,
        tick_millihertz: 99_987,
        reason: "",
    };

    fn shown(results: &mut Results, record: Record<'_>) -> Option<(String, Colour)> {
        results.take(&record).map(|(text, colour)| (text.as_str().trim_end().to_owned(), colour))
    }

    #[test]
    fn table_has_a_line_for_each_cpu() {
        let mut results = Results::new(50);
        let (text, _) = shown(&mut results, Record::Boot(BOOT)).expect("shown");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "",
                "3 of 4 CPUs online, x2APIC, tick 100 Hz, APIC timer 62.500 MHz, TSC 2994.370 MHz,",
                "memory 117 MiB, 340 KiB per CPU",
                "",
                " CPU   APIC  PROGRAM       OUTCOME   CODE     SYSCALLS     TICKS      HZ  REASON",
            ]
        );
        let killed = CpuRecord { outcome: Outcome::Killed, reason: "#GP at 0x1", tick_millihertz: 0, ..CPU };
        let failed = CpuRecord { code: -1, program: "a program with a long name", ..CPU };
        let table = [
            (CPU, "  12     24  hello         exited       0           17        42   99.99", Colour::Text),
            (
                killed,
                "  12     24  hello         killed       -           17        42       -  #GP at 0x1",
                Colour::Bad,
            ),
            (failed, "  12     24  a program wi  exited      -1           17        42   99.99", Colour::Bad),
        ];
        for (record, expected, colour) in table {
            let found = shown(&mut results, Record::Cpu(record)).expect("shown");
            assert_eq!((&*found.0, found.1), (expected, colour));
        }
        let verdict = VerdictRecord { verdict: Verdict::ProgramFailed, records: 3, warnings: 1 };
        let expected = ("\nfailed: 1 of 3 CPUs exited with code 0, 1 warning".to_owned(), Colour::Bad);
        assert_eq!(shown(&mut results, Record::Verdict(verdict)), Some(expected));
    }

    #[test]
    fn cpus_without_a_problem_are_counted_if_there_is_no_room() {
        let mut results = Results::new(OTHER_ROWS + 2);
        let missing = CpuRecord { outcome: Outcome::Missing, reason: "did not come online in time", ..CPU };
        let lines = [CPU, CPU, CPU, missing, CPU].map(|cpu| results.take(&Record::Cpu(cpu)).is_some());
        assert_eq!(lines, [true, true, false, true, false]);
        let verdict = VerdictRecord { verdict: Verdict::Pass, records: 5, warnings: 0 };
        let expected = "and 2 more CPUs whose program exited with code 0\n\
                        \npass: 4 of 5 CPUs exited with code 0, 0 warnings";
        let found = shown(&mut results, Record::Verdict(verdict));
        assert_eq!(found, Some((expected.to_owned(), Colour::Good)));
    }

    #[test]
    fn failures_are_shown_and_counters_are_not() {
        let mut results = Results::new(50);
        let table = [
            (
                Record::Panic { cpu: Some(1), message: "a \"cause\"" },
                Some("kernel panic on CPU 1: a ?cause?"),
            ),
            (Record::Panic { cpu: None, message: "early" }, Some("kernel panic: early")),
            (Record::Frame { ip: 0x1234 }, Some("  called from 0x1234")),
            (Record::Dropped { cpu: Some(2), bytes: 1 }, Some("1 byte of CPU 2's output was dropped")),
            (Record::Dropped { cpu: None, bytes: 9 }, Some("9 bytes of output were dropped")),
            (Record::Shares(kernel_abi::record::SharesRecord { cpu: 0, off: (0, 0), on: (0, 0) }), None),
        ];
        for (record, expected) in table {
            let expected = expected.map(|text| (text.to_owned(), Colour::Bad));
            assert_eq!(shown(&mut results, record), expected, "{record:?}");
        }
        let verdict = VerdictRecord { verdict: Verdict::Panic, records: 0, warnings: 0 };
        assert_eq!(shown(&mut results, Record::Verdict(verdict)), Some(("\npanic".to_owned(), Colour::Bad)));
    }
}
