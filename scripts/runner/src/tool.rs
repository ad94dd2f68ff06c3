//! Code that the host tool's executables share: start-up, error reporting and exit.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::{PanicHookInfo, catch_unwind};
use std::process::ExitCode;
use std::thread::Builder;

use machine::error::Error;
use machine::launch;
use machine::verify::Outcome;
use output::{Stream, eprintln, printable_lines};

/// The stack of the thread that executes the command line. `ulimit -s` may leave the main thread too little.
const STACK: usize = 8 << 20;

/// Executes `command`, which parses the command line and returns the exit status. A panic, and output that could not be
/// written, are host failures.
pub fn main(command: fn() -> ExitCode) -> ExitCode {
    output::keep_running_at_size_limit();
    std::panic::set_hook(Box::new(report_panic));
    if let Some(status) = launch::requested() {
        return status;
    }
    let status = on_own_stack(command);
    let lost = output::lost();
    lost.iter().for_each(|lost| eprintln!("xtask: {lost}"));
    // A failure of the kernel or of a program takes precedence over a failure of the host.
    if !lost.is_empty() && [Outcome::Pass, Outcome::Usage].map(Outcome::exit_code).contains(&status) {
        return Outcome::Host.exit_code();
    }
    status
}

/// Executes `command` on a thread whose stack size does not depend on `ulimit -s`. A panic is a host failure.
fn on_own_stack(command: fn() -> ExitCode) -> ExitCode {
    let run = move || catch_unwind(command).unwrap_or(Outcome::Host.exit_code());
    match Builder::new().stack_size(STACK).spawn(run) {
        Ok(thread) => thread.join().unwrap_or(Outcome::Host.exit_code()),
        Err(error) => {
            eprintln!("xtask: cannot create a thread with a stack of {} MiB: {error}", STACK >> 20);
            Outcome::Host.exit_code()
        }
    }
}

/// Returns the exit status of a command, after printing its error if it failed.
pub fn status(result: Result<ExitCode, Error>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {}", printable_lines(&error.to_string()));
        error.exit_code()
    })
}

/// Prints the help, the version, or the error in the command line.
pub fn usage(error: &clap::Error) -> ExitCode {
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
    eprintln!(
        "xtask: internal error at {place}: {message}; please report this line and the command that you ran"
    );
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        eprintln!("{backtrace}");
    }
}
