//! The options of `run`, `gdb` and `bench`.

use std::path::PathBuf;

use clap::Args;
use machine::cargo::Show;
use machine::options::MachineOptions;
use machine::session::Cue;

/// Options of `run` and `gdb`.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// PROGRAM: the name of an embedded program (see --list), or the path of a static ELF64 file. Default: selftest.
    /// Everything after it, options included, is passed to the program.
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,

    /// The machine options.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// The emulator. Bochs starts the kernel through GRUB, as --boot iso does.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Emulator::Qemu)]
    pub emulator: Emulator,

    /// Ends the run after this many seconds and prints the registers of all CPUs; 0 means no limit. [default: 60; with
    /// UEFI firmware: 120; with more than 128 CPUs: one additional second for every 4 CPUs; with --gdb: 0]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,

    /// Starts the machine stopped, prints how to attach gdb, and waits for it.
    #[arg(long)]
    pub gdb: bool,

    /// Writes the results of the run to FILE as JSON. With '-', JSON goes to standard output and everything else to
    /// standard error.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes the console output unchanged, completion records included, to FILE.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Starts the program N times on each CPU, each time as a new copy. Stops after the first copy that does not exit
    /// with code 0, unless --cmdline contains deaths=go-on.
    #[arg(long, value_name = "N")]
    pub repeat: Option<u32>,

    /// Records a trace of each CPU. KINDS is 'all' or a comma-separated list of: syscall, tick, interrupt, ipi, fault,
    /// program, idle, boot, user.
    #[arg(long, value_name = "KINDS")]
    pub trace: Option<String>,

    /// Writes the trace to FILE, for `xtask trace`.
    #[arg(long, value_name = "FILE", default_value = "ringside.rtrace")]
    pub trace_out: PathBuf,

    /// Which events to keep: the latest events of each CPU (flight), or all events, which the host drains during the
    /// run (stream).
    #[arg(long, value_name = "MODE", value_enum, default_value_t = TraceMode::Flight)]
    pub trace_mode: TraceMode,

    /// Runs COMMAND once in QEMU's monitor when TEXT appears on the console. Without TEXT, runs it before the tool ends
    /// a machine that has paused or exceeded its time limit. May be given more than once.
    #[arg(long, value_name = "TEXT=>COMMAND")]
    pub monitor: Vec<Cue>,

    /// Prints each CPU's task register, descriptor tables, stacks, control registers and MSRs. Checks that per-CPU
    /// registers differ between CPUs and that all others are equal.
    #[arg(long)]
    pub dump_cpus: bool,

    /// How the host gets the trace: from guest memory (ram), or over the console at the end of the run (serial), for
    /// machines whose memory the host cannot map.
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = TraceVia::Ram)]
    pub trace_via: TraceVia,

    /// Lists the embedded programs and exits.
    #[arg(long)]
    pub list: bool,

    /// Prints only errors and warnings, without the console output and the table.
    #[arg(long, short)]
    pub quiet: bool,

    /// Uses the last build without checking that it is up to date.
    #[arg(long, hide = true)]
    pub as_built: bool,

    /// Uses this kernel ELF instead of building one.
    #[arg(long, hide = true, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
}

/// The emulator of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Emulator {
    /// QEMU.
    Qemu,
    /// Bochs, which is slower and checks more.
    Bochs,
}

/// The handling of events when a CPU's ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceMode {
    /// The oldest events are overwritten.
    Flight,
    /// The host drains the rings. If it is too slow, events are dropped and counted.
    Stream,
}

impl RunOptions {
    /// Returns when the build shows its output.
    pub fn show(&self) -> Show {
        if self.quiet { Show::Trouble } else { Show::Slow }
    }
}

/// How the host gets the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceVia {
    /// From guest memory, which the host maps.
    Ram,
    /// Over the console, at the end of the run.
    Serial,
}

/// Options of `gdb`.
#[derive(Args, Clone, Debug)]
pub struct GdbOptions {
    /// A command that gdb runs after it has attached. May be given more than once.
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub ex: Vec<String>,

    /// The options of the run to debug.
    #[command(flatten)]
    pub run: RunOptions,
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::options::parse;

    #[test]
    fn quiet_run_does_not_show_the_progress_of_its_build() {
        let show = |words: &[&str]| parse::<RunOptions>(words).expect("cannot parse").show();
        assert_eq!((show(&["-q"]), show(&[])), (Show::Trouble, Show::Slow));
    }
}
