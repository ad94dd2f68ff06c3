//! The options of `stress` and `merge`, and the replay command of a boot.

use std::path::PathBuf;

use clap::Args;

use super::error::StressError;
use super::seeds::{Seed, SeedRange, derived};
pub use super::values::OFF;
use machine::options::MachineOptions;
use machine::options::{feature, mutant};
use machine::replay::Words;
use machine::tree::root;

use super::values::{ALL, kinds, mix};

/// Default number of calls from the mix on each CPU, if neither `--calls` nor `--seconds` is given.
const DEFAULT_CALLS: u64 = 20_000;

/// Options of `stress`.
#[derive(Args, Clone, Debug)]
pub struct StressOptions {
    /// The machine and the workload of each boot.
    #[command(flatten)]
    pub load: LoadOptions,

    /// The number of boots and the output files.
    #[command(flatten)]
    pub campaign: CampaignOptions,
}

/// Everything that a boot depends on, except its seed. The replay command contains all of these options.
#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// The machine's description.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Ends a boot after this many calls from the mix (see --mix) on each CPU. [default: 20000 without --seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub calls: Option<u64>,

    /// Ends a boot after this many seconds of guest time, or after --calls, whichever comes first.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub seconds: Option<u64>,

    /// The mix: the kinds of system calls to make and their weights. Kinds that are not listed are not called.
    /// [default: null=40,write=10,ticks=20,clock=10,cpu=10,trace=5,bad=5]
    #[arg(long, value_name = "KIND=WEIGHT,...", value_parser = mix)]
    pub mix: Option<String>,

    /// Each CPU sends the others this many IPIs per second.
    #[arg(long, default_value_t = 0, value_name = "R", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub ipi_storm: u32,

    /// Each CPU sends the others this many NMIs per second.
    #[arg(long, default_value_t = 0, value_name = "R", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub nmi_storm: u32,

    /// Translates one instruction per block, so that QEMU takes interrupts between any two instructions. This is slow.
    #[arg(long, conflicts_with = "icount")]
    pub one_insn: bool,

    /// Loads the host's CPUs in bursts, to vary how the guest's CPUs interleave.
    #[arg(long)]
    pub jitter: bool,

    /// The trace events that each CPU records: 'all', 'off', or a comma-separated list as in `run --trace`.
    #[arg(long, default_value = ALL, value_name = "KINDS", value_parser = kinds)]
    pub trace: String,

    /// Ends a boot after this many seconds of host time; 0 means no limit. [default: derived from the workload]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,

    /// Builds the kernel with this cargo feature, in a separate target directory; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = feature)]
    pub feature: Vec<String>,

    /// Builds the kernel without this guard; see `cargo xtask mutants --list`; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = mutant)]
    pub mutant: Vec<String>,
}

/// The number of boots, and what is written.
#[derive(Args, Clone, Debug)]
pub struct CampaignOptions {
    /// The seed, or the first seed with --runs; decimal or 0x hexadecimal. [default: random; the tool prints it]
    #[arg(long, value_name = "X")]
    pub seed: Option<Seed>,

    /// Runs a campaign of this many boots, with seeds derived from --seed.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: Option<u64>,

    /// Runs a campaign with one boot for each seed from A up to but excluding B; A..=B includes B.
    #[arg(long, value_name = "A..B", conflicts_with_all = ["seed", "runs"])]
    pub seeds: Option<SeedRange>,

    /// Runs this many boots at the same time. All their CPUs share the host's cores.
    #[arg(long, default_value_t = 1, value_name = "J", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,

    /// Continues after a failed boot.
    #[arg(long)]
    pub keep_going: bool,

    /// Prints one command per seed instead of booting. The commands can be run on any machine in any order. {seed} in
    /// --json and --report is replaced by the seed. [with this option, --json defaults to stress-{seed}.json]
    #[arg(long, conflicts_with_all = ["jobs", "keep_going", "verbose"])]
    pub print_jobs: bool,

    /// Writes the campaign's result as JSON, for `merge`; '-' is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Directory for the logs of failed boots. [default: target/stress-logs in the checkout]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,

    /// Writes the HTML report to this file. [default: target/stress-report.html in the checkout]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Writes no report.
    #[arg(long, conflicts_with = "report")]
    pub no_report: bool,

    /// Keeps the trace of every boot in the log directory, not only those of failed boots.
    #[arg(long)]
    pub keep_traces: bool,

    /// Interval between progress lines of each boot, if standard error is not a terminal.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub progress: u64,

    /// Shows the entire console output, including the program's numbered lines.
    #[arg(long, short)]
    pub verbose: bool,

    /// Uses the last build without checking whether it is up to date.
    #[arg(long)]
    pub as_built: bool,
}

/// Options of `merge`.
#[derive(Args, Clone, Debug)]
pub struct MergeOptions {
    /// Result files written by `stress --json`.
    #[arg(required = true, value_name = "RESULT.json")]
    pub results: Vec<PathBuf>,

    /// Seeds that must be in the results, in the notation of `stress --seeds`.
    #[arg(long, value_name = "A..B")]
    pub seeds: Option<SeedRange>,

    /// Writes the merged result as JSON; '-' is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes an HTML report: the grid of seeds, and the failures.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl CampaignOptions {
    /// Returns the path of the report, or `None` if no report is requested.
    pub fn report(&self) -> Option<PathBuf> {
        let path = || self.report.clone().unwrap_or_else(|| root().join("target/stress-report.html"));
        (!self.no_report).then(path)
    }

    /// Returns the directory for logs.
    pub fn log_dir(&self) -> PathBuf {
        self.log_dir.clone().unwrap_or_else(|| root().join("target/stress-logs"))
    }

    /// Returns the seeds, in the order in which they are booted.
    pub fn seeds(&self) -> Result<Vec<Seed>, StressError> {
        match self.seeds {
            Some(range) => range.seeds(),
            None => derived(self.seed.unwrap_or_else(Seed::random), self.runs.unwrap_or(1)),
        }
    }
}

impl LoadOptions {
    /// Returns the number of calls from the mix after which each CPU ends, or `None` if only the time limit ends the
    /// boot.
    pub fn calls(&self) -> Option<u64> {
        self.calls.or(self.seconds.is_none().then_some(DEFAULT_CALLS))
    }

    /// Returns the command that repeats a boot. It contains every option that differs from its default.
    pub fn replay(&self, seed: Seed) -> String {
        self.words(seed).command("stress")
    }

    fn words(&self, seed: Seed) -> Words {
        // The pattern has no `..`, so a new option that is not handled here causes a compile error.
        let LoadOptions {
            machine,
            calls: _,
            seconds,
            mix,
            ipi_storm,
            nmi_storm,
            one_insn,
            jitter,
            trace,
            timeout,
            feature,
            mutant,
        } = self;
        let mut words = Words::of(machine);
        let mut push = |name: &str, value: Option<String>| words.push(name, value);
        let number = |value: u64| (value != 0).then(|| value.to_string());
        push("calls", self.calls().map(|calls| calls.to_string()));
        push("seconds", seconds.map(|seconds| seconds.to_string()));
        push("mix", mix.clone());
        push("ipi-storm", number(u64::from(*ipi_storm)));
        push("nmi-storm", number(u64::from(*nmi_storm)));
        push("trace", Some(trace.clone()).filter(|kinds| kinds != ALL));
        push("timeout", timeout.map(|seconds| seconds.to_string()));
        feature.iter().for_each(|name| push("feature", Some(name.clone())));
        mutant.iter().for_each(|name| push("mutant", Some(name.clone())));
        push("seed", Some(seed.to_string()));
        for (name, given) in [("icount", &machine.icount), ("one-insn", one_insn), ("jitter", jitter)] {
            words.flag(name, *given);
        }
        words
    }
}

#[cfg(test)]
mod tests;
