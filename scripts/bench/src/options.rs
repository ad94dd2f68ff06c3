//! The options of the subcommand `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use machine::options::MachineOptions;
use measure::path::Trip;

/// The end of the help text.
const EXAMPLES: &str = "Examples:\n  \
    xtask bench --quick                          all figures, fewer samples\n  \
    xtask bench calls floor                      only these parts\n  \
    xtask bench --exact --write-baseline --reason 'the entry saves rbx, too'\n  \
    xtask bench trace --runs 3                   the cost of recording\n\n\
    Exit status: 0: everything was measured; 2: usage error; 5: host failure, or a boot did not end as it must.";

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The shortest possible system call.
    Floor,
    /// Instructions of system calls and timer ticks.
    Calls,
    /// Instructions of recorded system calls.
    Recorded,
    /// Instructions of interrupts, the exit by `iretq`, and the end of a program.
    Paths,
    /// Instructions of system calls on the last of 64 CPUs.
    LastCpu,
    /// Calls a second, bring-up and sizes.
    Host,
}

impl Part {
    /// The parts with exact figures.
    pub const EXACT: [Part; 5] = [Part::Floor, Part::Calls, Part::Recorded, Part::Paths, Part::LastCpu];
}

/// Options of `bench`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, after_long_help = EXAMPLES)]
pub struct BenchOptions {
    /// Measures one thing in detail.
    #[command(subcommand)]
    pub detail: Option<Detail>,

    /// Measures only these parts.
    #[arg(value_name = "PART", value_enum)]
    pub parts: Vec<Part>,

    /// Takes fewer samples, and leaves out the measurements that take long.
    #[arg(long)]
    pub quick: bool,

    /// Measures only the exact figures, which are the same on every host.
    #[arg(long, conflicts_with = "parts")]
    pub exact: bool,

    /// Shows the instructions that QEMU executes on a round trip from ring 3 and back, in order.
    #[arg(long = "where", value_name = "PATH", value_enum)]
    pub trip: Option<Trip>,

    /// With --where, shows pushes and pops that follow each other in one row.
    #[arg(long, requires = "trip")]
    pub fold: bool,

    /// With --where, prints the table that docs/performance.md contains.
    #[arg(long, requires = "trip", conflicts_with = "fold")]
    pub markdown: bool,

    /// Measures another kernel under the same QEMU, too. `linux` fetches Debian's kernel package into target/linux.
    #[arg(long, value_name = "KERNEL", conflicts_with = "parts")]
    pub peer: Option<Peer>,

    /// Writes the figures to FILE as JSON. [default: target/bench.json in the tree]
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes the figures to FILE as a page with charts. [default: target/bench.html in the tree]
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Enters the exact figures in docs/bench-baseline.json. Needs --reason.
    #[arg(long, requires = "reason")]
    pub write_baseline: bool,

    /// The reason for the change, which is stored with each figure that changes.
    #[arg(long, value_name = "TEXT", requires = "write_baseline")]
    pub reason: Option<String>,
}

/// Another kernel.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Peer {
    /// Debian's Linux.
    Linux,
}

impl BenchOptions {
    /// Returns whether to measure this part.
    #[must_use]
    pub fn selects(&self, part: Part) -> bool {
        match &self.parts[..] {
            [] if part == Part::Host => !self.exact,
            [] => part != Part::LastCpu || !self.quick,
            parts => parts.contains(&part),
        }
    }
}

/// What to measure in detail.
#[derive(Subcommand, Clone, Debug)]
pub enum Detail {
    /// Measures the cost of tracing per system call, by comparing traced and untraced calls in one run of `stress`.
    Trace(Box<TraceOptions>),
}

/// Options of `bench trace`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("smp", |smp| smp.default_value("2")))]
pub struct TraceOptions {
    /// The machine options.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// The mix of calls that `stress` makes, in the syntax of its --mix.
    #[arg(long, default_value = "null=100", value_name = "KIND=WEIGHT,...")]
    pub mix: String,

    /// Duration in seconds, by the guest's clock.
    #[arg(long, default_value_t = 2, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,

    /// Number of runs, each with its own boot.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,

    /// Number of records in each CPU's ring.
    #[arg(long, default_value_t = 65536, value_name = "N")]
    pub records: u32,

    /// Length of the alternating periods with and without recording, in milliseconds.
    #[arg(long, default_value_t = 200, value_name = "MS", value_parser = clap::value_parser!(u32).range(20..=60_000))]
    pub period: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::options::parse;

    fn selected(words: &[&str]) -> Vec<Part> {
        let options: BenchOptions = parse(words).expect("the options must be valid");
        Part::value_variants().iter().copied().filter(|part| options.selects(*part)).collect()
    }

    #[test]
    fn parts_are_selected_by_name_or_by_option() {
        assert_eq!(selected(&[]).len(), 6);
        assert_eq!(selected(&["--exact"]), Part::EXACT);
        assert_eq!(selected(&["--exact", "--quick"]), Part::EXACT[..4]);
        assert_eq!(selected(&["--quick", "last-cpu", "host"]), [Part::LastCpu, Part::Host]);
        assert!(parse::<BenchOptions>(["--exact", "calls"]).is_err());
        assert!(parse::<BenchOptions>(["--peer", "linux", "calls"]).is_err());
        assert!(parse::<BenchOptions>(["--write-baseline"]).is_err(), "it needs a reason");
        assert!(parse::<BenchOptions>(["trace", "--runs", "1"]).expect("a subcommand").detail.is_some());
    }
}
