//! The results of a run: a table for users, and JSON for programs.

use std::ffi::OsString;
use std::fmt::Write;
use std::time::Duration;

use kernel_abi::record::{BootRecord, Outcome};
use serde_json::{Value, json};

use crate::cpu_state;
use crate::facts::{Cpu, Facts};
use crate::fold;
use crate::verify::Judgement;

/// The columns of the table, and whether each is right-aligned. Only text columns are left-aligned.
const COLUMNS: [(&str, bool); 9] = [
    ("CPU", true),
    ("APIC", true),
    ("PROGRAM", false),
    ("OUTCOME", false),
    ("CODE", true),
    ("SYSCALLS", true),
    ("TICKS", true),
    ("HZ", true),
    ("REASON", false),
];

/// Returns the sum of counts that come from a guest or a file. They can have any value, so the sum saturates.
pub fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// Formats a heading and one line per CPU, or per group of CPUs with equal results if there are many CPUs (see
/// [`fold`]). Empty if there are no CPUs.
pub fn table(cpus: &[Cpu]) -> String {
    if cpus.is_empty() {
        return String::new();
    }
    aligned(&COLUMNS, fold::runs(&fold::sorted(cpus)).map(cells))
}

/// Formats rows under a heading, in aligned columns. A column is given by its name and whether it is right-aligned.
pub fn aligned<const N: usize>(
    columns: &[(&str, bool); N],
    cells: impl Iterator<Item = [String; N]>,
) -> String {
    let heading = columns.map(|(name, _)| name.to_owned());
    let rows: Vec<_> = std::iter::once(heading).chain(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Writing to a `String` cannot fail.
            let _ = match columns[column].1 {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:width$}  "),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Formats the cells of a group of CPUs, which is not empty.
fn cells(run: &[&Cpu]) -> [String; COLUMNS.len()] {
    let first = run[0];
    let code = if first.outcome == Outcome::Exited { first.code.to_string() } else { "-".to_owned() };
    let rates: Vec<_> = run.iter().copied().filter(|cpu| cpu.tick_millihertz != 0).collect();
    let rate = |cpu: &Cpu| Hz(cpu.tick_millihertz);
    [
        fold::range(run, |cpu| cpu.cpu),
        fold::range(run, |cpu| cpu.apic_id),
        first.program.clone(),
        first.outcome.name().to_owned(),
        code,
        fold::range(run, |cpu| cpu.syscalls),
        fold::range(run, |cpu| cpu.ticks),
        if rates.is_empty() { "-".to_owned() } else { fold::range(&rates, rate) },
        first.reason.clone(),
    ]
}

/// A rate in millihertz, shown in hertz.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Hz(u64);

impl std::fmt::Display for Hz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}", self.0 as f64 / 1000.0)
    }
}

/// Formats how many copies were started and how they ended, if any CPU started more than one.
pub fn starts_line(cpus: &[Cpu]) -> Option<String> {
    let total = |count: fn(&Cpu) -> u32| sum(cpus.iter().map(|cpu| u64::from(count(cpu))));
    let (starts, killed) = (total(|cpu| cpu.starts), total(|cpu| cpu.killed));
    cpus.iter().any(|cpu| cpu.starts > 1).then(|| {
        format!(
            "{}: {} exited, {killed} {} killed; the table shows the last copy on each CPU",
            output::count(starts, "start"),
            output::count(starts.saturating_sub(killed), "copy"),
            if killed == 1 { "was" } else { "were" }
        )
    })
}

/// Formats the number of cycles in which a CPU left the run and came back, if cycles were requested.
pub fn cycles_line(facts: &Facts) -> Option<String> {
    let cycles = facts.cycles?;
    let asked = output::count(cycles.asked.into(), "cycle");
    Some(format!("{} of {asked} done (in a cycle, a CPU leaves the run and comes back)", cycles.done))
}

/// Formats the boot record as two lines.
pub fn boot_line(boot: &BootRecord, kernel_size: Option<usize>) -> String {
    let mhz = |hz: u64| hz as f64 / 1e6;
    let kernel = kernel_size.map_or(String::new(), |size| format!(", kernel {} KiB", size.div_ceil(1024)));
    let bring_up = match boot.bring_up_ns {
        0 => String::new(),
        ns => format!(", bring-up {:.1} ms", ns as f64 / 1e6),
    };
    format!(
        "{} of {} online, {}, tick {} Hz, APIC timer {:.3} MHz,\nTSC {:.3} MHz by {}, memory {} MiB, {} KiB per CPU{kernel}{bring_up}\n",
        boot.cpus_online,
        output::count(boot.cpus_found.into(), "CPU"),
        if boot.x2apic { "x2APIC" } else { "xAPIC" },
        boot.tick_hz,
        mhz(boot.apic_timer_hz),
        mhz(boot.tsc_hz),
        boot.clock,
        boot.memory_kib / 1024,
        boot.per_cpu_kib
    )
}

/// Returns the results of the run as JSON. `time` is the time from QEMU's start to the verdict, or to QEMU's end if
/// there is no verdict.
pub fn json(judgement: &Judgement, facts: &Facts, qemu: &[OsString], time: Duration) -> Value {
    let cpus: Vec<_> = facts.cpus.iter().map(|cpu| cpu_json(cpu, facts)).collect();
    let incomplete = facts
        .incomplete
        .iter()
        .map(|line| json!({ "cpu": line.cpu, "text": String::from_utf8_lossy(&line.text) }));
    let incomplete: Vec<_> = incomplete.collect();
    let qemu: Vec<_> = qemu.iter().map(|word| word.to_string_lossy()).collect();
    json!({
        "outcome": judgement.outcome.name(),
        "cpus": cpus,
        "boot": facts.boots.first().map(|boot| boot_json(boot, time)),
        "cycles": facts.cycles.map(|cycles| json!({ "asked": cycles.asked, "done": cycles.done })),
        "begun": incomplete,
        "qemu": qemu,
        "warnings": judgement.warnings,
        "errors": judgement.errors,
    })
}

fn cpu_json(cpu: &Cpu, facts: &Facts) -> Value {
    let mut value = json!({
        "cpu": cpu.cpu,
        "apic_id": cpu.apic_id,
        "program": cpu.program,
        "outcome": cpu.outcome.name(),
        "code": cpu.code,
        "starts": cpu.starts,
        "killed": cpu.killed,
        "reason": cpu.reason,
        "place": cpu.place,
        "syscalls": cpu.syscalls,
        "ticks": cpu.ticks,
        "tick_hz": cpu.tick_hz(),
    });
    value["dropped"] = facts
        .dropped
        .iter()
        .filter(|(of, _)| *of == Some(cpu.cpu))
        .map(|(_, bytes)| *bytes)
        .sum::<u64>()
        .into();
    if let Some(state) = facts.states.iter().find(|state| state.cpu == cpu.cpu) {
        value["registers"] = cpu_state::json(state);
    }
    value
}

fn boot_json(boot: &BootRecord, time: Duration) -> Value {
    json!({
        "cpus_found": boot.cpus_found,
        "cpus_online": boot.cpus_online,
        "x2apic": boot.x2apic,
        "tick_hz": boot.tick_hz,
        "tsc_hz": boot.tsc_hz,
        "apic_timer_hz": boot.apic_timer_hz,
        "clock": boot.clock.name(),
        "memory_kib": boot.memory_kib,
        "per_cpu_kib": boot.per_cpu_kib,
        "bring_up_ns": (boot.bring_up_ns != 0).then_some(boot.bring_up_ns),
        "seconds": time.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Ending, judge};

    fn facts() -> Facts {
        let mut facts = Facts::default();
        for line in [
            "@ringside boot cpus_found=2 cpus_online=2 x2apic=0 tick_hz=100 tsc_hz=2450000000 \
             apic_timer_hz=1000000000 clock=hpet memory_kib=130000 per_cpu_kib=160 bring_up_ns=12345678",
            "@ringside cpu cpu=1 apic_id=10 program=\"hello\" outcome=killed code=0 starts=1 killed=0 syscalls=5 ticks=0 \
             tick_millihertz=0 reason=\"divide error\"",
            "@ringside cpu cpu=0 apic_id=0 program=\"hello\" outcome=exited code=0 starts=1 killed=0 syscalls=12 ticks=34 \
             tick_millihertz=100003 reason=\"\"",
            "@ringside verdict outcome=failed records=2 warnings=0",
        ] {
            facts.take(line.as_bytes());
        }
        facts
    }

    #[test]
    fn table_is_sorted_by_cpu_and_aligned() {
        let expected = "CPU  APIC  PROGRAM  OUTCOME  CODE  SYSCALLS  TICKS      HZ  REASON\n  \
                        0     0  hello    exited      0        12     34  100.00\n  \
                        1    10  hello    killed      -         5      0       -  divide error\n";
        assert_eq!(table(&facts().cpus), expected);
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn equal_rows_of_many_cpus_are_one_row() {
        let last = facts().cpus.remove(1);
        let cpu = |n: u32| Cpu { cpu: n, apic_id: n, tick_millihertz: 99_000 + u64::from(n), ..last.clone() };
        let mut cpus: Vec<_> = (0..1024).map(cpu).collect();
        cpus[1000].code = 3;
        cpus[1000].tick_millihertz = 0;
        let expected = "      CPU       APIC  PROGRAM  OUTCOME  CODE  SYSCALLS  TICKS             HZ  REASON\n\
                        \x20   0-999      0-999  hello    exited      0        12     34   99.00-100.00\n\
                        \x20    1000       1000  hello    exited      3        12     34              -\n\
                        1001-1023  1001-1023  hello    exited      0        12     34  100.00-100.02\n";
        assert_eq!(table(&cpus), expected);
    }

    #[test]
    fn starts_are_shown_if_more_than_one() {
        let mut cpus = facts().cpus;
        assert_eq!(starts_line(&cpus), None);
        (cpus[0].starts, cpus[0].killed) = (7, 5);
        let expected = "8 starts: 3 copies exited, 5 were killed; the table shows the last copy on each CPU";
        assert_eq!(starts_line(&cpus).as_deref(), Some(expected));
    }

    #[test]
    fn boot_lines_end_with_the_time_of_the_bring_up() {
        let boot = facts().boots[0];
        let expected = "2 of 2 CPUs online, xAPIC, tick 100 Hz, APIC timer 1000.000 MHz,\n\
                        TSC 2450.000 MHz by the HPET, memory 126 MiB, 160 KiB per CPU, kernel 2 KiB, bring-up 12.3 ms\n";
        assert_eq!(boot_line(&boot, Some(1025)), expected);
        let alone = BootRecord { bring_up_ns: 0, ..boot };
        assert!(boot_line(&alone, None).ends_with("160 KiB per CPU\n"), "one CPU has no bring-up");
    }

    #[test]
    fn json_tick_rate_is_null_if_unknown() {
        let facts = facts();
        let judgement = judge(Ending::Status(35), &facts);
        let value = json(&judgement, &facts, &["qemu".into()], Duration::from_millis(1500));
        assert_eq!(value["outcome"], "failed");
        assert_eq!(value["cpus"][0]["tick_hz"], Value::Null);
        assert_eq!(value["cpus"][1]["tick_hz"], 100.003);
        assert_eq!(value["boot"]["seconds"], 1.5);
        assert_eq!(value["boot"]["clock"], "hpet");
        assert_eq!(value["boot"]["bring_up_ns"], 12_345_678);
        assert_eq!(value["qemu"][0], "qemu");
        assert_eq!(value["errors"].as_array().map(Vec::len), Some(1));
    }
}
