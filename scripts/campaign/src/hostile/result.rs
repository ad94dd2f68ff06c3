//! The result of a run. It is formatted as a table and as JSON.

use machine::facts::Facts;
use machine::report::{aligned, sum};
use machine::verify::Outcome;
use output::count;
use serde_json::{Value, json};

use super::watch::Watch;
use crate::stress::seeds::Seed;

/// The result of a run.
pub struct Run {
    /// The seed of the run.
    pub seed: Seed,
    /// The command that repeats the run.
    pub replay: String,
    /// The outcome.
    pub outcome: Outcome,
    /// Time from QEMU's start to the verdict.
    pub seconds: f64,
    /// The messages of all problems.
    pub problems: Vec<String>,
    /// The results from the console.
    pub watch: Watch,
    /// The kernel's records from the console.
    pub facts: Facts,
}

impl Run {
    /// Returns the number of probes on the CPUs that `of` selects.
    fn probes(&self, of: impl Fn(u32) -> bool) -> u64 {
        let selected = self.classes().filter(|(cpu, _)| of(*cpu));
        sum(selected.flat_map(|(_, classes)| classes.iter().map(|(_, count)| *count)))
    }

    /// Returns the probe classes of each CPU that printed its summary.
    fn classes(&self) -> impl Iterator<Item = (u32, &[(String, u64)])> {
        self.watch.cpus.iter().filter_map(|(number, cpu)| {
            cpu.summary.as_ref().map(|summary| (*number, summary.classes.as_slice()))
        })
    }

    /// Formats a table with a line for each probe class (the count of each CPU and the sum) and a line of totals.
    pub fn table(&self) -> String {
        let cpus: Vec<_> = self.classes().collect();
        let Some((_, first)) = cpus.first() else { return String::new() };
        let mut lines = vec![(
            "CLASS".to_owned(),
            cpus.iter().map(|(cpu, _)| format!("CPU {cpu}")).collect(),
            "ALL".to_owned(),
        )];
        for (index, (class, _)) in first.iter().enumerate() {
            let counts: Vec<u64> =
                cpus.iter().map(|(_, classes)| classes.get(index).map_or(0, |(_, count)| *count)).collect();
            let all = sum(counts.iter().copied()).to_string();
            lines.push((class.clone(), counts.iter().map(u64::to_string).collect::<Vec<_>>(), all));
        }
        let sums = cpus.iter().map(|(cpu, _)| self.probes(|it| it == *cpu).to_string()).collect();
        lines.push(("all".to_owned(), sums, self.probes(|_| true).to_string()));
        let width = lines.iter().flat_map(|(_, counts, _)| counts).map(String::len).max().unwrap_or(0);
        let row = |(class, counts, sum): (String, Vec<String>, String)| {
            let counts = counts.iter().map(|count| format!("{count:>width$}")).collect::<Vec<_>>().join("  ");
            [class, counts, sum]
        };
        let mut rows = lines.into_iter().map(row);
        let heading = rows.next().unwrap_or_default();
        let [class, counts, sum] = heading.each_ref().map(String::as_str);
        aligned(&[(class, false), (counts, true), (sum, true)], rows)
    }

    /// Formats the average number of passes that each CPU made over the tables of probes.
    pub fn coverage(&self) -> Option<String> {
        let summary = self.watch.cpus.values().find_map(|cpu| cpu.summary.as_ref())?;
        let of = |deadly: bool| -> u64 {
            let is_deadly = |class: &str| DEADLY.contains(&class);
            let rest = ["start", "random"];
            let counts = summary.classes.iter().filter(|(class, _)| !rest.contains(&class.as_str()));
            sum(counts.filter(|(class, _)| is_deadly(class) == deadly).map(|(_, count)| *count))
        };
        let passes = |count: u64, rows: u64| count as f64 / rows.max(1) as f64;
        Some(format!(
            "passes per CPU: {:.2} over the {} survivable probes, {:.2} over the {} deadly ones",
            passes(of(false), summary.survived_rows),
            summary.survived_rows,
            passes(of(true), summary.deadly_rows),
            summary.deadly_rows
        ))
    }

    /// Formats the last line: outcome and totals.
    pub fn verdict(&self) -> String {
        let starts = sum(self.facts.cpus.iter().map(|cpu| u64::from(cpu.starts)));
        let killed = sum(self.facts.cpus.iter().map(|cpu| u64::from(cpu.killed)));
        format!(
            "{}: {} on {} in {}, {} killed, {}, {:.1} s",
            self.outcome.name(),
            count(self.probes(|_| true), "probe"),
            count(self.facts.cpus.len() as u64, "CPU"),
            count(starts, "start"),
            count(killed, "copy"),
            count(self.problems.len() as u64, "unexpected outcome"),
            self.seconds
        )
    }

    /// Returns the result as JSON.
    pub fn json(&self) -> Value {
        let cpus = self.facts.cpus.iter().map(|cpu| {
            let classes =
                self.classes().find(|(number, _)| *number == cpu.cpu).map_or(&[][..], |(_, classes)| classes);
            let classes: serde_json::Map<_, _> =
                classes.iter().map(|(class, count)| (class.clone(), json!(count))).collect();
            json!({
                "cpu": cpu.cpu, "starts": cpu.starts, "killed": cpu.killed, "ticks": cpu.ticks,
                "syscalls": cpu.syscalls, "outcome": cpu.outcome.name(), "code": cpu.code, "classes": classes,
            })
        });
        json!({
            "outcome": self.outcome.name(), "seed": self.seed.to_string(), "replay": self.replay,
            "seconds": self.seconds, "probes": self.probes(|_| true), "unexpected": self.problems,
            "cpus": cpus.collect::<Vec<_>>(),
        })
    }
}

/// The probe classes of the table of deadly probes.
const DEADLY: [&str; 7] = ["privileged", "interrupts", "far", "segments", "memory", "faults", "exits"];
