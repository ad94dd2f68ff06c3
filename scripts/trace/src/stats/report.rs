//! Formats the statistics: JSON by `serde`, or aligned tables.

use std::fmt::Write;

use serde::Serialize;

/// All statistics of a trace.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From the first event to the last one, in seconds.
    pub seconds: f64,
    /// Events that were counted.
    pub events: u64,
    /// One entry per CPU.
    pub cpus: Vec<CpuFigures>,
    /// One entry for each CPU and system call that it made, then one for each system call on all CPUs.
    pub syscalls: Vec<CallFigures>,
}

/// One CPU.
#[derive(Debug, Default, Serialize)]
pub struct CpuFigures {
    /// Place in the CPU list.
    pub cpu: u32,
    /// Its APIC id.
    pub apic_id: u32,
    /// Events that were counted.
    pub events: u64,
    /// Records lost because the ring was full.
    pub dropped: u64,
    /// Records lost because the ring wrapped around.
    pub overwritten: u64,
    /// Records that were never finished.
    pub torn: u64,
    /// Records that were sent over a console and did not arrive.
    pub lost: u64,
    /// Share of time in ring 3; none if the trace does not have the required kinds.
    pub ring3: Option<f64>,
    /// Share of time in ring 0, without idle time.
    pub ring0: Option<f64>,
    /// Share of time idle.
    pub idle: Option<f64>,
    /// Timer ticks.
    pub ticks: u64,
    /// The median time between two ticks, in nanoseconds; none with fewer than two.
    pub tick_interval_ns: Option<u64>,
    /// The 99th percentile of the intervals' distance from the median, in nanoseconds.
    pub tick_jitter_p99_ns: Option<u64>,
    /// The largest distance of an interval from the median, in nanoseconds.
    pub tick_jitter_max_ns: Option<u64>,
}

/// One system call, on one CPU or on all of them.
#[derive(Debug, Serialize)]
pub struct CallFigures {
    /// The CPU; none: all.
    pub cpu: Option<u32>,
    /// The system call's name.
    pub name: &'static str,
    /// Calls that were entered.
    pub entered: u64,
    /// Calls whose time is known: both ends are in the trace.
    pub timed: u64,
    /// Nanoseconds from enter to exit; none if no call was timed.
    pub ns: Option<Quantiles>,
}

/// Quantiles, to three significant figures.
#[derive(Debug, Serialize)]
pub struct Quantiles {
    /// The smallest.
    pub min: u64,
    /// The median.
    pub median: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p999: u64,
    /// The largest.
    pub max: u64,
}

impl Report {
    /// Formats two tables: CPUs and system calls.
    pub fn tables(&self) -> String {
        let mut text = format!("{} events in {:.6} s\n\n", self.events, self.seconds);
        text += &table(self.cpu_rows(), &[]);
        if !self.syscalls.is_empty() {
            text.push('\n');
            text += &table(self.call_rows(), &[1]);
        }
        text
    }

    fn cpu_rows(&self) -> Vec<Vec<String>> {
        let heading = "CPU APIC EVENTS DROPPED OVERWRITTEN TORN LOST RING3 RING0 IDLE TICKS TICK-MEDIAN-US \
                       JITTER-P99-US JITTER-MAX-US";
        let share = |share: Option<f64>| share.map(|share| format!("{:.2}%", share * 100.0));
        let row = |cpu: &CpuFigures| {
            let counts = [
                u64::from(cpu.cpu),
                u64::from(cpu.apic_id),
                cpu.events,
                cpu.dropped,
                cpu.overwritten,
                cpu.torn,
                cpu.lost,
            ];
            let jitter = [cpu.tick_interval_ns, cpu.tick_jitter_p99_ns, cpu.tick_jitter_max_ns];
            let mut row: Vec<_> = counts.iter().map(u64::to_string).collect();
            row.extend([cpu.ring3, cpu.ring0, cpu.idle].map(|time| or_dash(share(time))));
            row.push(cpu.ticks.to_string());
            row.extend(jitter.map(|ns| or_dash(ns.map(|ns| format!("{:.1}", ns as f64 / 1000.0)))));
            row
        };
        with_heading(heading, self.cpus.iter().map(row))
    }

    fn call_rows(&self) -> Vec<Vec<String>> {
        let row = |call: &CallFigures| {
            let ns = call.ns.as_ref();
            let times = ns.map(|ns| [ns.min, ns.median, ns.p99, ns.p999, ns.max].map(|ns| ns.to_string()));
            let mut row =
                vec![call.cpu.map_or("all".to_owned(), |cpu| cpu.to_string()), call.name.to_owned()];
            row.extend([call.entered.to_string(), call.timed.to_string()]);
            row.extend(times.unwrap_or_else(|| [const { String::new() }; 5].map(|_| or_dash(None))));
            row
        };
        with_heading(
            "CPU SYSCALL ENTERED TIMED MIN-NS MEDIAN-NS P99-NS P99.9-NS MAX-NS",
            self.syscalls.iter().map(row),
        )
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn with_heading(heading: &str, rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let heading = heading.split_whitespace().map(str::to_owned).collect();
    std::iter::once(heading).chain(rows).collect()
}

/// Formats rows in columns as wide as their widest cell, two blanks apart. Numbers are right-aligned, texts left-aligned.
fn table(rows: Vec<Vec<String>>, texts: &[usize]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a `String` cannot fail.
            let _ = match texts.contains(&column) {
                true => write!(line, "{cell:width$}  "),
                false => write!(line, "{cell:>width$}  "),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
