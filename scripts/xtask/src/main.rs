//! Ringside's host tool. It builds the kernel and its programs, runs them under QEMU, tests them and debugs them.
//!
//! `build` builds the kernel's ELF with the programs inside; `run` boots it and determines the outcome from QEMU's
//! exit status *and* the kernel's completion records ([`machine::verify`]); `test` runs every check and every QEMU
//! case; `gdb` starts QEMU stopped, with gdb attached.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests write their own files, and a failed write fails the test"
    )
)]

mod broken;
mod browser;
mod cases;
mod checks;
mod cli;
mod fuzz;
mod layers;
mod logs;
mod machines;
mod mutants;
mod soft_float;
mod suite;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::{PanicHookInfo, catch_unwind};
use std::process::ExitCode;
use std::thread::Builder;

use campaign::{hostile, stress};
use machine::build::Mutants;
use machine::options::Boot;
use machine::verify::Outcome;
use machine::{build, cargo, launch};
use output::{Memory, Stream, eprintln, printable_lines};
use runner::{bench, gdb, images, run};

use crate::cli::Command;

/// The allocator. If there is no memory left, the tool ends with a host failure.
#[global_allocator]
static MEMORY: Memory = Memory::or_exit(Outcome::Host.status() as i32);

fn main() -> ExitCode {
    output::keep_running_at_size_limit();
    std::panic::set_hook(Box::new(report_panic));
    let status = on_own_stack();
    let lost = output::lost();
    lost.iter().for_each(|lost| eprintln!("xtask: {lost}"));
    // A failure of the kernel or of a program takes precedence over a failure of the host.
    if !lost.is_empty() && [Outcome::Pass, Outcome::Usage].map(Outcome::exit_code).contains(&status) {
        return Outcome::Host.exit_code();
    }
    status
}

/// The stack of the thread that executes the command line. `ulimit -s` may leave the main thread too little.
const STACK: usize = 8 << 20;

/// Executes the command line on a stack that no limit makes smaller. A panic is a host failure.
fn on_own_stack() -> ExitCode {
    let run = || catch_unwind(command).unwrap_or(Outcome::Host.exit_code());
    match Builder::new().stack_size(STACK).spawn(run) {
        Ok(thread) => thread.join().unwrap_or(Outcome::Host.exit_code()),
        Err(error) => {
            eprintln!("xtask: no thread with a stack of {} MiB: {error}", STACK >> 20);
            Outcome::Host.exit_code()
        }
    }
}

/// Executes the command line, and returns the exit status.
fn command() -> ExitCode {
    build::register_mutants(Mutants { build: mutants::kernel, check: mutants::check_names });
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Build => build::everything(cargo::Show::Progress).and_then(|built| {
            build::print(&built)?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Run(options) => run::run(&options),
        Command::Gdb(options) => gdb::gdb(&options),
        Command::Iso(options) => images::run(&options, Boot::Iso),
        Command::Image(options) => images::run(&options, Boot::Image),
        Command::Test(options) => suite::run(&options),
        Command::Machines(options) => machines::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Inject(options) => inject::run(&options),
        Command::Stress(options) => stress::run(&options),
        Command::Hostile(options) => hostile::run(&options),
        Command::Merge(options) => stress::merge(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Trace(options) => trace::run(&options, machine::traced::find).map_err(Into::into),
        Command::Launch { parent, command } => launch::become_child(parent, &command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {}", printable_lines(&error.to_string()));
        error.exit_code()
    })
}

/// Prints the help, the version, or the error in the command line.
fn usage(error: &clap::Error) -> ExitCode {
    let (stream, outcome) = match error.use_stderr() {
        true => (Stream::Err, Outcome::Usage),
        false => (Stream::Out, Outcome::Pass),
    };
    // Let clap print the text, because it knows which colours the terminal supports. It uses the buffer of `std`.
    stream.note(error.print().and_then(|()| std::io::stdout().flush()));
    outcome.exit_code()
}

/// Reports a panic, which is always a bug in this tool. The message is one line, followed by a backtrace if one is
/// requested (`RUST_BACKTRACE`).
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or("an unknown place".to_owned(), ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("no message");
    eprintln!("xtask: fault of the tool at {place}: {message}; please report this line with the command");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        eprintln!("{backtrace}");
    }
}
