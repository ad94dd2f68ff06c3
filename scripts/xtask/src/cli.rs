//! The command line of the host tool.

use bench::options::BenchOptions;
use campaign::hostile::options::HostileOptions;
use campaign::stress::options::{MergeOptions, StressOptions};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use inject::options::InjectOptions;
use runner::images::ImageOptions;
use runner::options::{GdbOptions, RunOptions};
use runner::run;

use crate::fuzz::FuzzOptions;
use crate::machines::MachinesOptions;
use crate::mutants::MutantOptions;
use crate::qemus::QemusOptions;
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
    /// Builds the programs and the kernel that contains them, and prints their sizes.
    Build,
    // The texts are those of `run.sh --help`.
    #[allow(missing_docs, reason = "clap would use the comment as the description")]
    #[command(about = run::ABOUT, long_about = run::LONG_ABOUT, override_usage = format!("xtask run {}", run::WORDS))]
    Run(RunOptions),
    /// Starts QEMU stopped, with gdb attached and the symbols of kernel and program loaded. gdb shows CPUs as threads.
    ///
    /// QEMU exits when gdb exits. The console is written to a file whose name is printed at the start.
    #[command(override_usage = "xtask gdb [OPTIONS] [PROGRAM [ARGS...]]")]
    Gdb(GdbOptions),
    /// Builds the kernel and writes a CD-ROM image from which GRUB starts it on a PC with BIOS firmware.
    #[command(override_usage = "xtask iso [OPTIONS] OUT.iso [PROGRAM [ARGS...]]")]
    Iso(ImageOptions),
    /// Builds the kernel and writes a disk image from which UEFI firmware starts it, for a USB stick or a virtual
    /// machine.
    #[command(override_usage = "xtask image [OPTIONS] OUT.img [PROGRAM [ARGS...]]")]
    Image(ImageOptions),
    /// Runs all checks and QEMU cases, or those whose names contain a FILTER.
    Test(TestOptions),
    /// Boots a program on many kinds of machines. Each must pass, or be rejected with an error message that says why.
    ///
    /// Exit status: 0: every machine passed or was rejected as expected; 1: at least one failed; 2: usage error; 5:
    /// host failure.
    Machines(MachinesOptions),
    /// Fetches four versions of QEMU from Debian's suites into target/qemus, and runs the self-test on each.
    ///
    /// Exit status: 0: every run passed, and QEMU printed no warning; 1: a run failed, or QEMU printed a warning; 2:
    /// usage error; 5: host failure.
    Qemus(QemusOptions),
    /// Removes one guard at a time from the kernel, and checks that the guard's test then fails.
    Mutants(MutantOptions),
    /// Feeds the kernel's parsers inputs that libFuzzer generates from the seeds in kernel/fuzz.
    Fuzz(FuzzOptions),
    /// Injects an NMI, #DB or #MC at every instruction of the kernel's entry and exit paths.
    ///
    /// Exit status: 0: the kernel survived every required injection; 1: it did not survive one; 2: usage error; 5: host
    /// failure.
    Inject(Box<InjectOptions>),
    /// Boots the program `stress` with one or more seeds, and checks every system call and every byte of output.
    ///
    /// The exit status is that of the worst boot, with the same values as for `run`. From worst to best: 3 (panic), 1
    /// (failed), 4 (time limit exceeded), 5 (host failure), 0 (passed).
    Stress(Box<StressOptions>),
    /// Boots the program `hostile`, which attacks the kernel from ring 3 on every CPU. It is killed and restarted many
    /// times.
    ///
    /// Exit status: 0: every probe (attack) ended as expected; 1: a probe did not. Other values have the same meaning
    /// as for `run`.
    Hostile(Box<HostileOptions>),
    /// Merges results of `stress --json`, which may be from several machines, into one table and one exit status.
    Merge(MergeOptions),
    /// Measures the kernel: instructions of system calls and ticks, calls a second, bring-up and sizes.
    ///
    /// Prints a table, and writes target/bench.json and target/bench.html. Exact figures are instructions under QEMU's -icount, and are
    /// the same on every host. All others depend on the host; they are medians, printed with their spread.
    Bench(Box<BenchOptions>),
    /// Converts a trace to a file for Perfetto, to the Common Trace Format, to text or to statistics.
    Trace(trace::options::TraceOptions),
}

/// Parses the command line of this process. `test.sh` names itself in the variable `RINGSIDE_SCRIPT`, so
/// that the usage line shows what the user called.
pub fn parse() -> Result<Cli, clap::Error> {
    let script = std::env::var("RINGSIDE_SCRIPT").unwrap_or_default();
    Cli::from_arg_matches(&command(&script).try_get_matches()?)
}

/// Returns the definition of the command line, as called by a script.
fn command(script: &str) -> clap::Command {
    let command = Cli::command();
    if !script.ends_with("/test.sh") {
        return command;
    }
    let usage = format!("{script} [OPTIONS] [FILTER]...");
    command.mut_subcommand("test", |subcommand| subcommand.override_usage(usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Result<RunOptions, clap::Error> {
        let cli = Cli::try_parse_from(["xtask", "run"].iter().chain(words))?;
        let Command::Run(options) = cli.command else { panic!("not run") };
        Ok(options)
    }

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_names_the_script_that_was_called() {
        let usage = |script: &str, name: &str| {
            let mut command = command(script);
            let help = command.find_subcommand_mut(name).expect("there must be a subcommand").render_help();
            let help = help.to_string();
            help.lines()
                .find_map(|line| line.strip_prefix("Usage: "))
                .expect("there must be a usage line")
                .to_owned()
        };
        assert_eq!(usage("./scripts/test.sh", "test"), "./scripts/test.sh [OPTIONS] [FILTER]...");
        assert_eq!(usage("./scripts/test.sh", "run"), "xtask run [OPTIONS] [PROGRAM [ARGS...]]");
        assert_eq!(usage("", "run"), "xtask run [OPTIONS] [PROGRAM [ARGS...]]");
    }

    #[test]
    fn words_after_the_program_are_its_arguments() {
        let options = run(&["--smp", "2", "args", "--smp", "9", "-x", "--", "y"]).expect("cannot parse");
        assert_eq!(options.machine.smp, "2");
        assert_eq!(options.words, ["args", "--smp", "9", "-x", "--", "y"]);
    }

    #[test]
    fn qemu_arguments_may_begin_with_a_hyphen() {
        let options = run(&["--qemu-arg", "-d", "--qemu-arg", "int"]).expect("cannot parse");
        assert_eq!(options.machine.qemu_arg, ["-d", "int"]);
    }

    #[test]
    fn help_of_trace_lists_the_groups() {
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("run");
        let option = run.get_arguments().find(|argument| argument.get_id() == "trace").expect("--trace");
        let help = option.get_help().expect("there must be a help text").to_string();
        let words = kernel_abi::trace::GROUPS.map(|(word, _)| word).join(", ");
        assert!(help.contains(&words), "run --trace: {help:?} does not list {words:?}");
    }

    #[test]
    fn tick_rate_out_of_range_is_rejected() {
        assert!(run(&["--tick-hz", "0"]).is_err());
        assert!(run(&["--tick-hz", "10001"]).is_err());
        assert!(run(&["--icount", "--accel", "kvm"]).is_err());
    }
}
