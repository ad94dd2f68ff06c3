//! The subcommand `bench trace`: measures how many system calls per second the CPUs make with and without tracing, within the
//! same run.
//!
//! The kernel alternates between recording and not recording (`trace_alternate=`) and counts the calls that each CPU
//! makes in each state. Anything that slows the host down thus slows both states.

mod line;

use std::process::ExitCode;
use std::time::Duration;

use kernel_abi::record::SharesRecord;
use machine::error::Error;
use machine::facts::Facts;
use machine::guest_memory::GuestMemory;
use machine::options::parse;
use machine::qemu::Wiring;
use machine::quoting::shell_quoted;
use machine::session;
use machine::verify::Outcome;
use output::println;
use runner::options::RunOptions;
use runner::recording::{Recording, damage};
use runner::run::{Plan, judgement};
use trace::capture::Summary;

use crate::options::TraceOptions;

/// Time in seconds that boot, clock calibration and shutdown may take in addition to the load.
const BOOT_SECONDS: u64 = 60;

/// The columns, all right-aligned, with their minimum widths.
const COLUMNS: [(&str, usize); 7] = [
    ("RUN", 3),
    ("OFF-CALLS/S", 11),
    ("ON-CALLS/S", 11),
    ("ON/OFF", 6),
    ("DROPPED", 8),
    ("DRAIN-NS", 8),
    ("LINE-NS", 9),
];

/// Explains the columns whose names are not self-explanatory.
const LEGEND: &str = "DRAIN-NS: the host's CPU time for each record. LINE-NS: the transfer time of a cache line from one \
                      of the host's CPUs to another, before the run and after it";

/// The measurements of one run, as totals over all CPUs.
struct Measurement {
    off: f64,
    on: f64,
    dropped: u64,
    drain_ns: f64,
    line_ns: [Option<f64>; 2],
}

/// Runs the benchmark. Prints a row per run, and the median of their ratios.
pub fn run(options: &TraceOptions) -> Result<ExitCode, Error> {
    let mut ratios = Vec::new();
    for number in 1..=options.runs {
        let before = line::transfer_ns();
        let (facts, summary) = boot(options, number == 1)?;
        let line_ns = [before, line::transfer_ns()];
        if number == 1 {
            println!("{}", aligned(&COLUMNS.map(|(name, _)| name.to_owned())));
        }
        let measured = measured(&facts.shares, &summary, line_ns);
        println!("{}", aligned(&row(number, &measured)));
        ratios.push(measured.on / measured.off);
    }
    println!(
        "median of ON/OFF: {:.1} %, {} in each ring",
        100.0 * median(&mut ratios),
        output::count(options.records.next_power_of_two().into(), "record")
    );
    println!("{LEGEND}");
    Ok(ExitCode::SUCCESS)
}

/// Adds up the calls per second of all CPUs.
fn measured(shares: &[SharesRecord], summary: &Summary, line_ns: [Option<f64>; 2]) -> Measurement {
    let sum = |of: fn(&SharesRecord) -> (u64, u64)| shares.iter().map(|shares| rate(of(shares))).sum();
    Measurement {
        off: sum(|shares| shares.off),
        on: sum(|shares| shares.on),
        dropped: summary.header.total(|cpu| cpu.dropped),
        drain_ns: summary.drained.as_nanos() as f64 / summary.records().max(1) as f64,
        line_ns,
    }
}

fn row(number: u32, measured: &Measurement) -> [String; COLUMNS.len()] {
    let Measurement { off, on, dropped, drain_ns, line_ns } = measured;
    let [before, after] = line_ns.map(|ns| ns.map_or("-".to_owned(), |ns| format!("{ns:.0}")));
    [
        number.to_string(),
        format!("{off:.0}"),
        format!("{on:.0}"),
        format!("{:.1}%", on / off * 100.0),
        dropped.to_string(),
        format!("{drain_ns:.0}"),
        format!("{before}, {after}"),
    ]
}

fn aligned(cells: &[String; COLUMNS.len()]) -> String {
    let cells = cells.iter().zip(COLUMNS).map(|(cell, (_, width))| format!("{cell:>width$}"));
    cells.collect::<Vec<_>>().join("  ")
}

/// Returns the median. For an even number of values it is the upper of the two middle ones.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs the load once while the host drains the trace. A failed run is an error, because its measurement is invalid.
fn boot(options: &TraceOptions, first: bool) -> Result<(Facts, Summary), Error> {
    let folder = tempfile::tempdir();
    let folder =
        folder.map_err(|error| Error::File("cannot create a directory for the trace".to_owned(), error))?;
    let mut run = run_options(options)?;
    run.trace_out = folder.path().join("bench.rtrace");
    let plan = Plan::make(&run)?;
    let machine = plan.machine(&run, None);
    let shown = machine.command_line(Wiring::Terminal)?;
    if first {
        println!("{}", shell_quoted(&shown));
    }
    let memory = GuestMemory::create(&run.machine)?;
    let recording = Recording::start(&run, &shown, memory.as_ref())?;
    let recording = recording.ok_or_else(|| Error::Host("these options record no trace".to_owned()))?;
    let limit = Duration::from_secs(2 * options.seconds + BOOT_SECONDS);
    let mut facts = Facts::default();
    let words = machine.command_line(Wiring::Session)?;
    let words = memory.as_ref().map_or(words.clone(), |memory| memory.wire(words));
    let ended = session::run(&words, Some(limit), &[], |line, _| {
        facts.take(line);
    })?;
    let judgement = judgement(&ended, &facts);
    if judgement.outcome != Outcome::Pass {
        return Err(Error::Host(format!("the run failed: {}", judgement.errors.join("; "))));
    }
    let summary = recording.finish()?;
    damage(&summary).map_or(Ok((facts, summary)), Err)
}

/// Returns the equivalent options for `run`.
fn run_options(options: &TraceOptions) -> Result<RunOptions, Error> {
    let (mix, seconds) = (&options.mix, options.seconds);
    let words =
        format!("--trace syscall --trace-mode stream stress --mix {mix} --seconds {seconds} --seed 1");
    let mut run: RunOptions = parse(words.split(' ')).map_err(|error| Error::Usage(error.to_string()))?;
    run.machine = options.machine.clone();
    let keys = format!("trace_records={} trace_alternate={}", options.records, options.period);
    run.machine.cmdline = Some(
        [Some(keys), options.machine.cmdline.clone()].into_iter().flatten().collect::<Vec<_>>().join(" "),
    );
    Ok(run)
}

/// Returns calls per second.
fn rate((calls, ns): (u64, u64)) -> f64 {
    calls as f64 / ns as f64 * 1e9
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use trace::file::{Cpu, Header};

    #[test]
    fn rates_are_added_and_the_ratio_is_of_rates() {
        let shares = |cpu, off, on| SharesRecord { cpu, off, on };
        let all =
            [shares(0, (1000, 1_000_000), (300, 500_000)), shares(1, (2000, 2_000_000), (1800, 2_000_000))];
        let cpu = |records, dropped| Cpu { records, dropped, ..Cpu::default() };
        let header = Header { cpus: vec![cpu(600, 2), cpu(400, 3)], ..Header::default() };
        let summary = Summary { path: PathBuf::new(), header, drained: Duration::from_nanos(20_400) };
        let of = |line_ns| row(7, &measured(&all, &summary, line_ns));
        assert_eq!(
            of([Some(36.6), Some(170.0)]),
            ["7", "2000000", "1500000", "75.0%", "5", "20", "37, 170"].map(str::to_owned)
        );
        assert_eq!(of([None, Some(1.0)])[6], "-, 1");
        assert_eq!(
            aligned(&of([None, None])),
            "  7      2000000      1500000   75.0%         5        20       -, -"
        );
    }

    #[test]
    fn median_is_the_upper_middle_value() {
        assert_eq!(
            (median(&mut [3.0, 1.0, 2.0]), median(&mut [4.0, 1.0]), median(&mut [5.0])),
            (2.0, 4.0, 5.0)
        );
    }

    #[test]
    fn run_options_match_the_benchmark() {
        let words = ["--seconds", "3", "--cmdline", "tick_hz=50", "--mix", "null=1,bad=1"];
        let options = parse(words).expect("cannot parse");
        let run = run_options(&options).expect("the options must be valid");
        assert_eq!(run.machine.smp, "2");
        assert_eq!(
            run.machine.cmdline.as_deref(),
            Some("trace_records=65536 trace_alternate=200 tick_hz=50")
        );
        assert_eq!(run.words, ["stress", "--mix", "null=1,bad=1", "--seconds", "3", "--seed", "1"]);
    }
}
