//! Formats the statistics: as JSON (by `serde`) or as aligned tables.

use std::fmt::Write;

use serde::Serialize;

/// All statistics of a trace.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Time from the first to the last event, in seconds.
    pub seconds: f64,
    /// Number of events.
    pub events: u64,
    /// One entry per CPU.
    pub cpus: Vec<CpuFigures>,
    /// One entry for each system call that each CPU made, followed by one entry per system call for all CPUs together.
    pub syscalls: Vec<CallFigures>,
}

/// The statistics of one CPU.
#[derive(Debug, Default, Serialize)]
pub struct CpuFigures {
    /// Index of the CPU in the CPU list.
    pub cpu: u32,
    /// The APIC ID of the CPU.
    pub apic_id: u32,
    /// Number of events of this CPU.
    pub events: u64,
    /// Number of records dropped because the ring was full.
    pub dropped: u64,
    /// Number of records that later records overwrote in the ring.
    pub overwritten: u64,
    /// Number of records that were started but never finished.
    pub torn: u64,
    /// Number of records that were sent over the console but did not arrive.
    pub lost: u64,
    /// Share of time in ring 3. `None` if the trace does not contain the required kinds.
    pub ring3: Option<f64>,
    /// Share of time in ring 0, excluding idle time.
    pub ring0: Option<f64>,
    /// Share of idle time.
    pub idle: Option<f64>,
    /// Number of timer ticks.
    pub ticks: u64,
    /// The median interval between ticks, in nanoseconds. `None` with fewer than two ticks.
    pub tick_interval_ns: Option<u64>,
    /// The 99th percentile of the intervals' deviations from the median, in nanoseconds.
    pub tick_jitter_p99_ns: Option<u64>,
    /// The largest deviation of an interval from the median, in nanoseconds.
    pub tick_jitter_max_ns: Option<u64>,
}

/// The statistics of one system call, on one CPU or on all CPUs.
#[derive(Debug, Serialize)]
pub struct CallFigures {
    /// The CPU; `None` stands for all CPUs.
    pub cpu: Option<u32>,
    /// The name of the system call.
    pub name: &'static str,
    /// Number of calls that entered the kernel.
    pub entered: u64,
    /// Number of calls with a known duration: both the entry and the exit are in the trace.
    pub timed: u64,
    /// Nanoseconds from entry to exit. `None` if no call has a known duration.
    pub ns: Option<Quantiles>,
}

/// The exact minimum and maximum, and quantiles to three significant figures.
#[derive(Debug, Serialize)]
pub struct Quantiles {
    /// The minimum.
    pub min: u64,
    /// The median.
    pub median: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p999: u64,
    /// The maximum.
    pub max: u64,
}

impl Report {
    /// Formats two tables: one of CPUs and one of system calls.
    pub fn tables(&self) -> String {
        let mut text = format!("{} in {:.6} s\n\n", output::count(self.events, "event"), self.seconds);
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

/// Formats rows in columns as wide as their widest cells, separated by two blanks. Numbers are right-aligned, texts
/// left-aligned.
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
