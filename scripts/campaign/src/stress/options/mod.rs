//! The options of `stress` and `merge`, and the command that replays one boot.

use std::path::PathBuf;

use clap::Args;

use super::error::StressError;
use super::seeds::{Seed, SeedRange, derived};
pub use super::values::OFF;
use machine::options::MachineOptions;
use machine::options::feature;
use machine::replay::Words;
use machine::tree::root;

use super::values::{ALL, kinds, mix};

/// Calls of the mix on each CPU, unless the user says how a boot ends.
const DEFAULT_CALLS: u64 = 20_000;

/// Options of `stress`.
#[derive(Args, Clone, Debug)]
pub struct StressOptions {
    /// What each boot is.
    #[command(flatten)]
    pub load: LoadOptions,

    /// How many boots there are, and what becomes of them.
    #[command(flatten)]
    pub campaign: CampaignOptions,
}

/// All that a boot depends on, but for its seed. What is here is in the command that replays it.
#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// The machine's description.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Ends a boot after so many calls of the mix on each CPU. [default: 20000, if there is no --seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub calls: Option<u64>,

    /// Ends a boot after so many seconds by the guest's clock; with --calls too, whichever comes first.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub seconds: Option<u64>,

    /// Which calls are mixed, with weights; a kind that is not named does not come.
    /// [default: null=40,write=10,ticks=20,clock=10,cpu=10,trace=5,bad=5]
    #[arg(long, value_name = "KIND=WEIGHT,...", value_parser = mix)]
    pub mix: Option<String>,

    /// Each CPU sends so many IPIs a second to the others.
    #[arg(long, default_value_t = 0, value_name = "R", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub ipi_storm: u32,

    /// Each CPU sends so many NMIs a second to the others.
    #[arg(long, default_value_t = 0, value_name = "R", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub nmi_storm: u32,

    /// One instruction a translation block: QEMU takes interrupts between any two instructions. Slow.
    #[arg(long, conflicts_with = "icount")]
    pub one_insn: bool,

    /// Burns the host's CPUs in bursts, to shake the order in which the guest's CPUs run.
    #[arg(long)]
    pub jitter: bool,

    /// What each CPU records of what it does: 'all', 'off', or words with commas between them, as in `run --trace`.
    #[arg(long, default_value = ALL, value_name = "KINDS", value_parser = kinds)]
    pub trace: String,

    /// Ends a boot after this many seconds of the host's; 0: never. [default: what the load can take at most]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,

    /// Builds the kernel with this cargo feature, apart from the usual build; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = feature)]
    pub feature: Vec<String>,

    /// Builds the kernel without this guard, of `cargo xtask mutants --list`; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = feature)]
    pub mutant: Vec<String>,
}

/// How many boots there are, and what becomes of them.
#[derive(Args, Clone, Debug)]
pub struct CampaignOptions {
    /// The seed, decimal or 0x hexadecimal; of --runs, the first. Random, and printed, without this.
    #[arg(long, value_name = "X")]
    pub seed: Option<Seed>,

    /// A campaign of so many boots, with seeds that follow from --seed.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: Option<u64>,

    /// A campaign of a boot for each seed from A up to and without B; A..=B: with B.
    #[arg(long, value_name = "A..B", conflicts_with_all = ["seed", "runs"])]
    pub seeds: Option<SeedRange>,

    /// So many boots at once. The host's cores are the limit; --smp CPUs share them as it is.
    #[arg(long, default_value_t = 1, value_name = "J", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,

    /// Goes on after a boot that failed.
    #[arg(long)]
    pub keep_going: bool,

    /// Prints one command a seed, to be run anywhere in any order, and does nothing else. {seed} in --json
    /// stands for the seed. [with this, --json is: stress-{seed}.json]
    #[arg(long, conflicts_with_all = ["jobs", "keep_going", "verbose"])]
    pub print_jobs: bool,

    /// Writes the campaign's result as JSON, for `merge`; '-' is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Where the log of each failed boot is kept. [default: target/stress-logs in the checkout]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,

    /// Where the report goes. [default: target/stress-report.html in the checkout]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Makes no report.
    #[arg(long, conflicts_with = "report")]
    pub no_report: bool,

    /// Keeps the trace of every boot, and not only of those that failed, where the logs are kept.
    #[arg(long)]
    pub keep_traces: bool,

    /// Where standard error is no terminal: says so often how far each boot is.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub progress: u64,

    /// Shows the whole console, the numbered lines that the program writes included.
    #[arg(long, short)]
    pub verbose: bool,

    /// Takes what was built last, without looking whether it is up to date.
    #[arg(long)]
    pub as_built: bool,
}

/// Options of `merge`.
#[derive(Args, Clone, Debug)]
pub struct MergeOptions {
    /// Files that `stress --json` wrote.
    #[arg(required = true, value_name = "RESULT.json")]
    pub results: Vec<PathBuf>,

    /// The seeds that have to be there, as `stress --seeds` takes them.
    #[arg(long, value_name = "A..B")]
    pub seeds: Option<SeedRange>,

    /// Writes the joint result; '-' is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes a report: the grid of seeds, and what is wrong with those that failed.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl CampaignOptions {
    /// Where the report goes, if one is wanted.
    pub fn report(&self) -> Option<PathBuf> {
        let path = || self.report.clone().unwrap_or_else(|| root().join("target/stress-report.html"));
        (!self.no_report).then(path)
    }

    /// Where logs are kept.
    pub fn log_dir(&self) -> PathBuf {
        self.log_dir.clone().unwrap_or_else(|| root().join("target/stress-logs"))
    }

    /// The seeds, in the order in which they are booted.
    pub fn seeds(&self) -> Result<Vec<Seed>, StressError> {
        match self.seeds {
            Some(range) => range.seeds(),
            None => derived(self.seed.unwrap_or_else(Seed::random), self.runs.unwrap_or(1)),
        }
    }
}

impl LoadOptions {
    /// Calls of the mix on each CPU, if that is an end, whether the only one or not.
    pub fn calls(&self) -> Option<u64> {
        self.calls.or(self.seconds.is_none().then_some(DEFAULT_CALLS))
    }

    /// The command that boots this once more with a seed. It says all that is not the default.
    pub fn replay(&self, seed: Seed) -> String {
        self.words(seed).command("stress")
    }

    fn words(&self, seed: Seed) -> Words {
        // Without `..`, so that an option that is added and not thought of here does not compile.
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
