//! The options of the subcommand `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use machine::options::MachineOptions;
use measure::path::Trip;

/// Options of `bench`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchOptions {
    /// Measures one thing in detail.
    #[command(subcommand)]
    pub detail: Option<Detail>,

    /// Takes fewer samples, and leaves out the measurements that take long.
    #[arg(long)]
    pub quick: bool,

    /// Measures only the exact figures, which are the same on every host.
    #[arg(long)]
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
    #[arg(long, value_name = "KERNEL")]
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
