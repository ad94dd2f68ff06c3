//! The command line of the host tool.

mod machine;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::machine::MachineOptions;
use crate::hostile::options::HostileOptions;
use crate::inject::options::InjectOptions;
use crate::session::Cue;
use crate::stress::options::{MergeOptions, StressOptions};

/// Builds, runs, tests and debugs Ringside.
#[derive(Parser)]
#[command(name = "xtask", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Builds the programs and the kernel that carries them, and prints what they weigh.
    Build,
    /// Builds everything, boots it under QEMU, and judges the run.
    ///
    /// Exit status: 0 every CPU's program exited with code 0; 1 a program failed or was killed; 2 usage;
    /// 3 kernel panic or broken invariant; 4 time-out; 5 the host's fault (build, QEMU missing).
    #[command(override_usage = "xtask run [OPTIONS] [PROGRAM [ARGS...]]")]
    Run(RunOptions),
    /// Starts QEMU stopped, with gdb attached and the kernel's symbols loaded; CPUs are gdb's threads.
    ///
    /// QEMU ends with gdb. The console goes to a file, which is named at the start.
    #[command(override_usage = "xtask gdb [OPTIONS] [PROGRAM [ARGS...]]")]
    Gdb(GdbOptions),
    /// Runs every check and every QEMU case, or those whose names contain a FILTER.
    Test(TestOptions),
    /// Takes one guard away after the other, and demands that the test which is there for it fails.
    Mutants(MutantOptions),
    /// Feeds the kernel's parsers with inputs that libFuzzer makes out of the seeds in kernel/fuzz.
    Fuzz(FuzzOptions),
    /// Stops CPUs at every instruction of the kernel's entry and exit paths, and strikes there with an NMI, #DB or #MC.
    ///
    /// Exit status: 0 every instruction was struck and every strike was stood; 1 not so; 2 usage; 5 the host's fault.
    Inject(Box<InjectOptions>),
    /// Boots the program `stress` with one seed or many, and checks every boot to the last call and byte.
    ///
    /// Exit status as that of `run`, of the worst boot: 3 panic, then 1 failed, 4 time-out, 5 the host's fault.
    Stress(Box<StressOptions>),
    /// Boots the program `hostile`, which tries on every CPU what ring 3 could hurt the kernel with, and dies of it
    /// over and over.
    ///
    /// Exit status: 0 every probe ended as it has to; 1 one did not; else as that of `run`.
    Hostile(Box<HostileOptions>),
    /// Joins results of `stress --json` from many machines: one table, one exit status.
    Merge(MergeOptions),
    /// Measures what recording a trace costs the system calls of `stress`, within one run.
    Bench(Box<BenchOptions>),
    /// Makes out of a trace: a file for Perfetto, one in the Common Trace Format, text, figures.
    Trace(crate::trace::options::TraceOptions),
    /// Becomes COMMAND, which then ends with its parent.
    #[command(hide = true)]
    Launch {
        /// The process whose end ends the command.
        parent: u32,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
}

/// Options of `run`, and of `gdb` too.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// PROGRAM: an embedded program's name (see --list), or the path of any static ELF64. Default: selftest.
    /// Whatever follows it, options or not, are the program's arguments.
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,

    /// The machine's description.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Ends the run after this many seconds, with the registers of all CPUs; 0: never.
    /// [default: 60; with --gdb: 0]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,

    /// Starts stopped and waits for gdb, which the tool then says how to attach.
    #[arg(long)]
    pub gdb: bool,

    /// Writes the run's facts as JSON; '-' is standard output, and all else then goes to standard error.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes the console as it came, completion records included, to a file.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Starts the program so many times on each CPU, a fresh copy each. The first that does not exit with code 0 is the
    /// last, unless --cmdline has deaths=go-on.
    #[arg(long, value_name = "N")]
    pub repeat: Option<u32>,

    /// Records what each CPU does: 'all', or words with commas between them: syscall, tick, interrupt, ipi,
    /// fault, program, idle, boot, user.
    #[arg(long, value_name = "KINDS")]
    pub trace: Option<String>,

    /// Where the recorded trace goes, for `xtask trace`.
    #[arg(long, value_name = "FILE", default_value = "ringside.rtrace")]
    pub trace_out: PathBuf,

    /// Keeps the latest events of each CPU (flight), or all of them, drained during the run (stream).
    #[arg(long, value_name = "MODE", value_enum, default_value_t = TraceMode::Flight)]
    pub trace_mode: TraceMode,

    /// Gives QEMU's monitor COMMAND when TEXT comes on the console, once; may be given again and again.
    #[arg(long, value_name = "TEXT=>COMMAND")]
    pub monitor: Vec<Cue>,

    /// Prints each CPU's task register, tables, stacks, control registers and MSRs, and checks that those which must be
    /// a CPU's own are, and that all others are the same.
    #[arg(long)]
    pub dump_cpus: bool,
    /// How the trace leaves the machine: in memory that the host reads (ram), or over the console at the run's end
    /// (serial), for machines whose memory the host cannot map.
    #[arg(long, value_name = "WAY", value_enum, default_value_t = TraceVia::Ram)]
    pub trace_via: TraceVia,

    /// Lists the embedded programs and does nothing else.
    #[arg(long)]
    pub list: bool,

    /// Prints neither console nor table, only what went wrong.
    #[arg(long, short)]
    pub quiet: bool,

    /// Takes what was built last, without looking whether it is up to date.
    #[arg(long, hide = true)]
    pub as_built: bool,

    /// Takes this kernel's ELF instead of building one.
    #[arg(long, hide = true, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
}

/// What becomes of events when a CPU's ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceMode {
    /// The oldest are overwritten.
    Flight,
    /// The host empties the rings; what it is too slow for is counted.
    Stream,
}

/// How a trace leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceVia {
    /// In memory that the host maps.
    Ram,
    /// Over the console, at the end.
    Serial,
}

/// Options of `gdb`.
#[derive(Args, Clone, Debug)]
pub struct GdbOptions {
    /// A command for gdb, run once it is attached; may be given again and again.
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub ex: Vec<String>,

    /// The run to debug.
    #[command(flatten)]
    pub run: RunOptions,
}

/// Options of `test`.
#[derive(Args, Clone, Debug)]
pub struct TestOptions {
    /// Runs what has one of these words in its name. Default: everything.
    pub filter: Vec<String>,

    /// Lists the names and does nothing else.
    #[arg(long)]
    pub list: bool,
}

/// Options of `bench`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("smp", |smp| smp.default_value("2")))]
pub struct BenchOptions {
    /// The machine's description.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Which calls `stress` makes, as its --mix takes it.
    #[arg(long, default_value = "null=100", value_name = "KIND=WEIGHT,...")]
    pub mix: String,

    /// How long it makes them, in seconds of the guest's clock.
    #[arg(long, default_value_t = 2, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,

    /// How many times: one boot each.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,

    /// Records in each CPU's ring.
    #[arg(long, default_value_t = 65536, value_name = "N")]
    pub records: u32,

    /// Recording is switched off and on in turn, so many milliseconds each.
    #[arg(long, default_value_t = 200, value_name = "MS", value_parser = clap::value_parser!(u32).range(20..=60_000))]
    pub period: u32,
}

/// Options of `mutants`.
#[derive(Args, Clone, Debug)]
pub struct MutantOptions {
    /// The guards to take away, by their cargo features, with or without `mutant-`. Default: all.
    pub names: Vec<String>,

    /// Lets stress campaigns find those that are there for it, and replays what they found.
    #[arg(long)]
    pub stress: bool,

    /// Lets a run of `hostile` find those that ring 3 can make show.
    #[arg(long, conflicts_with = "stress")]
    pub hostile: bool,

    /// Lists them, with the test that is to fail, and does nothing else.
    #[arg(long)]
    pub list: bool,

    /// Prints what the guards on a system call's road cost, in instructions, and does nothing else.
    #[arg(long)]
    pub cost: bool,

    /// Prints the tables of docs/security.md and does nothing else.
    #[arg(long, hide = true)]
    pub hazards: bool,

    /// Prints the table of docs/mutants.md and does nothing else.
    #[arg(long, hide = true)]
    pub markdown: bool,
}

/// Options of `fuzz`.
#[derive(Args, Clone, Debug)]
pub struct FuzzOptions {
    /// The targets. Default: all.
    #[arg(value_name = "TARGET", value_parser = crate::fuzz::TARGETS)]
    pub targets: Vec<String>,

    /// Inputs for each target.
    #[arg(long, value_name = "N", default_value_t = crate::fuzz::RUNS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,

    /// The seed of libFuzzer's choices.
    #[arg(long, value_name = "SEED", default_value_t = crate::fuzz::SEED)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub seed: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(words: &[&str]) -> Result<RunOptions, clap::Error> {
        let cli = Cli::try_parse_from(["xtask", "run"].iter().chain(words))?;
        let Command::Run(options) = cli.command else { panic!("not run") };
        Ok(options)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_program_is_the_programs() {
        let options = run(&["--smp", "2", "args", "--smp", "9", "-x", "--", "y"]).expect("parses");
        assert_eq!(options.machine.smp, "2");
        assert_eq!(options.words, ["args", "--smp", "9", "-x", "--", "y"]);
    }

    #[test]
    fn qemu_arguments_may_begin_with_a_hyphen() {
        let options = run(&["--qemu-arg", "-d", "--qemu-arg", "int"]).expect("parses");
        assert_eq!(options.machine.qemu_arg, ["-d", "int"]);
    }

    #[test]
    fn the_help_of_trace_lists_the_groups() {
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("run");
        let option = run.get_arguments().find(|argument| argument.get_id() == "trace").expect("--trace");
        let help = option.get_help().expect("a help").to_string();
        let words = kernel_abi::trace::GROUPS.map(|(word, _)| word).join(", ");
        assert!(help.contains(&words), "run --trace: {help:?} does not list {words:?}");
    }

    #[test]
    fn a_tick_rate_out_of_range_is_refused() {
        assert!(run(&["--tick-hz", "0"]).is_err());
        assert!(run(&["--tick-hz", "10001"]).is_err());
        assert!(run(&["--icount", "--accel", "kvm"]).is_err());
    }
}
