//! The command line of the host tool.

use campaign::hostile::options::HostileOptions;
use campaign::stress::options::{MergeOptions, StressOptions};
use clap::{Parser, Subcommand};
use inject::options::InjectOptions;
use runner::options::{BenchOptions, GdbOptions, RunOptions};

use crate::fuzz::FuzzOptions;
use crate::mutants::MutantOptions;
use crate::suite::TestOptions;

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
    Trace(trace::options::TraceOptions),
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
