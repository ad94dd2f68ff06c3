//! The subcommand `bench`: how many system calls a second CPUs make while their traces are recorded and drained, and how
//! many without, within one run.
//!
//! The kernel switches recording off and on in turn (`trace_alternate=`) and counts on each CPU the calls of both kinds of
//! time, so that whatever slows the host down slows both.

mod line;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kernel_abi::record::SharesRecord;

use crate::cli::{BenchOptions, Cli, Command, RunOptions};
use crate::error::Error;
use crate::facts::Facts;
use crate::qemu::{Wiring, shell_quoted};
use crate::recording::{Recording, describe};
use crate::report::aligned;
use crate::run::{Plan, judgement};
use crate::session;
use crate::trace::capture::Summary;
use crate::verify::Outcome;

/// What the boot, the measuring of clocks and the end of a run may take, in seconds, beside the load.
const BOOT_SECONDS: u64 = 60;

/// Measures, and prints a table.
pub fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    let before = line::transfer_ns();
    let (facts, summary) = boot(options)?;
    let after = line::transfer_ns();
    let rows = facts.shares.iter().map(|shares| row(&shares.cpu.to_string(), shares));
    let all = (facts.shares.len() > 1).then(|| row("all", &sum(&facts.shares)));
    let columns = [("CPU", true), ("OFF-CALLS/S", true), ("ON-CALLS/S", true), ("ON/OFF", true)];
    print!("{}", aligned(&columns, rows.chain(all)));
    println!("{} records in each ring", options.records.next_power_of_two());
    println!("{}", describe(&summary));
    println!("drain: {:.0} ns of the host's processor time a record", drain_ns(&summary));
    if let (Some(before), Some(after)) = (before, after) {
        println!(
            "host: a cache line from one CPU to another {before:.0} ns before the run, {after:.0} ns after it"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// One run, with the trace drained while it lasts. A run that fails has measured nothing.
fn boot(options: &BenchOptions) -> Result<(Facts, Summary), Error> {
    let folder = tempfile::tempdir();
    let folder =
        folder.map_err(|error| Error::File("cannot make a folder for the trace".to_owned(), error))?;
    let mut run = run_options(options)?;
    run.trace_out = folder.path().join("bench.rtrace");
    let plan = Plan::make(&run)?;
    let machine = plan.machine(&run, None);
    let shown = machine.command_line(Wiring::Terminal);
    println!("{}", shell_quoted(&shown));
    let recording = Recording::start(&run, &shown)?;
    let recording = recording.ok_or_else(|| Error::Host("nothing would be recorded".to_owned()))?;
    let limit = Duration::from_secs(2 * options.seconds + BOOT_SECONDS);
    let mut facts = Facts::default();
    let words = recording.wire(machine.command_line(Wiring::Session));
    let ended = session::run(&words, Some(limit), &[], |line, _| {
        facts.take(line);
    })?;
    let judgement = judgement(&ended, &facts);
    if judgement.outcome != Outcome::Pass {
        return Err(Error::Host(format!("the run failed: {}", judgement.errors.join("; "))));
    }
    Ok((facts, recording.finish()?))
}

/// As `run` would read them.
fn run_options(options: &BenchOptions) -> Result<RunOptions, Error> {
    let (mix, seconds) = (&options.mix, options.seconds);
    let own = format!(
        "xtask run --trace syscall --trace-mode stream stress --mix {mix} --seconds {seconds} --seed 1"
    );
    let cli = Cli::try_parse_from(own.split(' ')).map_err(|error| Error::Usage(error.to_string()))?;
    let Command::Run(mut run) = cli.command else {
        return Err(Error::Usage(format!("that is not run: {own}")));
    };
    run.machine = options.machine.clone();
    let keys = format!("trace_records={} trace_alternate={}", options.records, options.period);
    run.machine.cmdline = Some(
        [Some(keys), options.machine.cmdline.clone()].into_iter().flatten().collect::<Vec<_>>().join(" "),
    );
    Ok(run)
}

/// What all CPUs did together: calls add up, time does not.
fn sum(shares: &[SharesRecord]) -> SharesRecord {
    let add = |of: fn(&SharesRecord) -> (u64, u64)| {
        let per_second: f64 = shares.iter().map(|shares| rate(of(shares))).sum();
        (per_second.round() as u64, 1_000_000_000)
    };
    SharesRecord { cpu: 0, off: add(|shares| shares.off), on: add(|shares| shares.on) }
}

fn row(name: &str, shares: &SharesRecord) -> [String; 4] {
    let (off, on) = (rate(shares.off), rate(shares.on));
    [name.to_owned(), format!("{off:.0}"), format!("{on:.0}"), format!("{:.1}%", on / off * 100.0)]
}

fn drain_ns(summary: &Summary) -> f64 {
    summary.drained.as_nanos() as f64 / summary.records().max(1) as f64
}

/// Calls a second.
fn rate((calls, ns): (u64, u64)) -> f64 {
    calls as f64 / ns as f64 * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_add_up_and_ratios_are_of_rates() {
        let shares = |cpu, off, on| SharesRecord { cpu, off, on };
        let all =
            [shares(0, (1000, 1_000_000), (300, 500_000)), shares(1, (2000, 2_000_000), (1800, 2_000_000))];
        assert_eq!(row("0", &all[0]), ["0", "1000000", "600000", "60.0%"]);
        assert_eq!(row("all", &sum(&all)), ["all", "2000000", "1500000", "75.0%"]);
    }

    #[test]
    fn the_run_is_what_is_to_be_measured() {
        let words = ["xtask", "bench", "--seconds", "3", "--cmdline", "tick_hz=50", "--mix", "null=1,bad=1"];
        let Command::Bench(options) = Cli::try_parse_from(words).expect("parses").command else {
            panic!("not bench")
        };
        let run = run_options(&options).expect("is a run");
        assert_eq!(run.machine.smp, "2");
        assert_eq!(
            run.machine.cmdline.as_deref(),
            Some("trace_records=65536 trace_alternate=200 tick_hz=50")
        );
        assert_eq!(run.words, ["stress", "--mix", "null=1,bad=1", "--seconds", "3", "--seed", "1"]);
    }
}
