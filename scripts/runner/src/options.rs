//! The options of `run`, `gdb` and `bench`.

use std::path::PathBuf;

use clap::Args;
use machine::options::MachineOptions;
use machine::session::Cue;

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
