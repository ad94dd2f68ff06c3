//! The options of `hostile`, and its replay command.

use std::path::PathBuf;

use clap::Args;
use machine::options::MachineOptions;
use machine::replay::Words;

use crate::stress::seeds::Seed;

/// Default tick rate in hertz. It is high because the time limit of a copy is counted in ticks, and because ticks
/// should interrupt probes.
const TICK_HZ: u32 = 1000;

/// Options of `hostile`.
#[derive(Args, Clone, Debug)]
pub struct HostileOptions {
    /// The machine's description.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// The seed, decimal or 0x hexadecimal. [default: random; the tool prints it]
    #[arg(long, value_name = "X")]
    pub seed: Option<Seed>,

    /// Number of probes that a copy of the program survives, before the probe that kills it.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub probes: u32,

    /// Number of times the program is started on each CPU.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rounds: u32,

    /// Kills a copy of the program after this many ticks. Random bytes can contain endless loops.
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_ticks: u32,

    /// Each CPU sends the others this many IPIs per second.
    #[arg(long, default_value_t = 100, value_name = "R", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub ipi_storm: u32,

    /// Each CPU sends the others this many NMIs per second.
    #[arg(long, default_value_t = 100, value_name = "R", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub nmi_storm: u32,

    /// Ends the run after this many seconds of host time; 0 means no limit. [default: 60, plus 1 for every 4 starts]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,

    /// Builds the kernel with this cargo feature, in a separate target directory; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = machine::options::feature)]
    pub feature: Vec<String>,

    /// Builds the kernel without this guard; see `cargo xtask mutants --list`; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = machine::options::mutant)]
    pub mutant: Vec<String>,

    /// Writes the result as JSON; '-' is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes the raw console output to a file. [default: target/hostile/SEED/console.log]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Also shows the console output of the probes.
    #[arg(long, short)]
    pub verbose: bool,

    /// Uses the last build without checking whether it is up to date.
    #[arg(long)]
    pub as_built: bool,

    /// Uses this kernel ELF instead of building one.
    #[arg(long, hide = true, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
}

impl HostileOptions {
    /// Returns the machine's options, with the default tick rate unless the user gave one.
    pub fn machine(&self) -> MachineOptions {
        MachineOptions { tick_hz: self.machine.tick_hz.or(Some(TICK_HZ)), ..self.machine.clone() }
    }

    /// Returns the keys of the kernel's command line.
    pub fn kernel_keys(&self) -> String {
        let mut keys = format!("repeat={} deaths=go-on limit_ticks={}", self.rounds, self.limit_ticks);
        for (key, rate) in [("ipi_storm", self.ipi_storm), ("nmi_storm", self.nmi_storm)] {
            if rate != 0 {
                keys += &format!(" {key}={rate}");
            }
        }
        match &self.machine.cmdline {
            Some(user_keys) => format!("{keys} {user_keys}"),
            None => keys,
        }
    }

    /// Returns the time limit of the run in seconds; 0 means no limit.
    pub fn seconds(&self) -> u64 {
        self.timeout.unwrap_or(60 + self.machine.boot.firmware_seconds() + u64::from(self.rounds) / 4)
    }

    /// Returns the command that repeats the run. It contains every option that differs from its default.
    pub fn replay(&self, seed: Seed) -> String {
        let mut words = Words::of(&self.machine);
        words.flag("icount", self.machine.icount);
        words.push("probes", Some(self.probes.to_string()));
        words.push("rounds", Some(self.rounds.to_string()));
        for (name, value, default) in [
            ("limit-ticks", self.limit_ticks, 500),
            ("ipi-storm", self.ipi_storm, 100),
            ("nmi-storm", self.nmi_storm, 100),
        ] {
            words.push(name, (value != default).then(|| value.to_string()));
        }
        words.push("timeout", self.timeout.map(|seconds| seconds.to_string()));
        self.feature.iter().for_each(|name| words.push("feature", Some(name.clone())));
        self.mutant.iter().for_each(|name| words.push("mutant", Some(name.clone())));
        words.push("seed", Some(seed.to_string()));
        words.command("hostile")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> HostileOptions {
        let words = shlex::split(text).expect("cannot split into words");
        machine::options::parse(words).expect("cannot parse")
    }

    #[test]
    fn replay_has_all_options() {
        assert_eq!(
            parse("").replay(Seed(0xab)),
            "cargo xtask hostile --smp 4 --probes 20 --rounds 200 --seed 0xab"
        );
        let text = "--smp 2 --cpu qemu64 --cmdline 'trace=fault' --probes 5 --rounds 7 --limit-ticks 9 --nmi-storm 0 \
                    --timeout 30 --feature checking --seed 0x1";
        let replay = parse(text).replay(Seed(1));
        assert_eq!(
            parse(replay.strip_prefix("cargo xtask hostile").expect("it must begin with the command"))
                .replay(Seed(1)),
            replay
        );
        assert_eq!(replay, format!("cargo xtask hostile {text}"));
    }

    #[test]
    fn kernel_keys_continue_after_a_kill() {
        assert_eq!(
            parse("--rounds 7 --ipi-storm 0 --cmdline trace=fault").kernel_keys(),
            "repeat=7 deaths=go-on limit_ticks=500 nmi_storm=100 trace=fault"
        );
        assert_eq!(parse("").machine().tick_hz, Some(1000));
        assert_eq!(parse("--tick-hz 100").machine().tick_hz, Some(100));
    }
}
