//! The host tool of `run.sh`: the subcommand `run` by itself, so that the first run from a fresh clone builds no more
//! than it needs.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use machine::verify::Outcome;
use output::Memory;
use runner::options::RunOptions;
use runner::{run, tool};

/// The allocator. If there is no memory left, the tool ends with a host failure.
#[global_allocator]
static MEMORY: Memory = Memory::or_exit(Outcome::Host.status() as i32);

/// The command line.
#[derive(Parser)]
#[command(name = "run.sh", about = run::ABOUT, long_about = run::LONG_ABOUT, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    options: RunOptions,
}

fn main() -> ExitCode {
    tool::main(command)
}

/// Executes the command line, and returns the exit status.
fn command() -> ExitCode {
    // The script names itself, so that the usage line shows the command that the user entered.
    let script = std::env::var("RINGSIDE_SCRIPT").unwrap_or("run.sh".to_owned());
    let definition = Cli::command().override_usage(format!("{script} {}", run::WORDS));
    match definition.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(Cli { options }) => tool::status(run::run(&options)),
        Err(error) => tool::usage(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_after_the_program_are_its_arguments() {
        let words = ["run.sh", "--smp", "2", "args", "--smp", "9", "-x"];
        let cli = Cli::try_parse_from(words).expect("cannot parse");
        assert_eq!(cli.options.machine.smp, "2");
        assert_eq!(cli.options.words, ["args", "--smp", "9", "-x"]);
    }
}
