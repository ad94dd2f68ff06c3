//! The subcommand `gdb`: starts a machine that is stopped at its first instruction, and attaches gdb to it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use machine::code::Code;
use machine::error::Error;
use machine::qemu::Wiring;
use machine::quoting::shell_quoted;
use machine::tree::root;
use machine::verify::Outcome;
use machine::{launch, monitor};
use object::{Object, ObjectSymbol};
use output::println;

use crate::options::{Emulator, GdbOptions};
use crate::run::{Plan, free_port};

/// Debuggers in order of preference. rust-gdb is gdb with pretty-printers for Rust types.
const DEBUGGERS: [&str; 2] = ["rust-gdb", "gdb"];

/// Part of the name of the first function after the boot code. A breakpoint there must be a hardware breakpoint: at
/// reset the kernel is not mapped, so gdb cannot write an `int3`.
const ENTRY_NAME: &str = "bsp_main";

/// The settings without which gdb cannot read the kernel's ELF file, attach to QEMU or set the breakpoint. The user's
/// gdbinit may have other values for other projects. gdb runs these commands after it has read that file, and before it
/// reads the ELF file.
const SETTINGS: [&str; 7] = [
    "set architecture i386:x86-64",
    "set endian little",
    "set osabi auto",
    "set non-stop off",
    "set remotetimeout 10",
    "set remote Z-packet auto",
    "set remote hardware-breakpoint-limit unlimited",
];

/// Starts QEMU, then replaces this process with gdb. gdb is then QEMU's parent, so QEMU ends when gdb does.
pub fn gdb(options: &GdbOptions) -> Result<ExitCode, Error> {
    let debugger = DEBUGGERS.into_iter().find(|name| is_in_path(name)).ok_or_else(|| {
        Error::Host(
            "no gdb found: install the package gdb, or attach another debugger to `run --gdb`".to_owned(),
        )
    })?;
    if options.run.emulator == Emulator::Bochs {
        return Err(Error::Usage("gdb needs QEMU".to_owned()));
    }
    let plan = Plan::make(&options.run)?;
    let port = free_port()?;
    let machine = plan.machine(&options.run, Some(port));
    let console = root().join("target/gdb-console.log");
    let words = machine.command_line(Wiring::File(&console))?;
    println!("{}", shell_quoted(&words));
    println!("console: {}", console.display());
    if !output::lost().is_empty() {
        // Return to `main`, which reports the error; gdb would not.
        return Ok(Outcome::Host.exit_code());
    }
    start_qemu(&words)?;
    let mut command = Command::new(debugger);
    command.arg("-q");
    for text in SETTINGS {
        command.args(["-iex", text]);
    }
    command.arg(&plan.kernel);
    let attach = format!("target remote 127.0.0.1:{port}");
    for text in ["set confirm off", "set pagination off", &attach] {
        command.args(["-ex", text]);
    }
    if let Some(program) = Code::of_command(&words).program_path() {
        // The debugger starts in another directory.
        let program = std::path::absolute(&program).unwrap_or(program);
        command.args(["-ex", &format!("add-symbol-file {}", quoted(&program.to_string_lossy()))]);
    }
    if let Some(entry) = entry_symbol(&plan.kernel) {
        command.args(["-ex", &format!("hbreak {entry}")]);
    }
    for text in &options.ex {
        command.args(["-ex", text]);
    }
    let error = command.current_dir(root()).exec();
    Err(Error::File(format!("cannot start {debugger}"), error))
}

fn start_qemu(words: &[std::ffi::OsString]) -> Result<(), Error> {
    let log = root().join("target/gdb-qemu.log");
    let stderr = output::create(&log).map_err(|error| Error::file("write", &log, error))?;
    let fail = |error| Error::File("cannot start QEMU".to_owned(), error);
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    let stdout = stderr.try_clone().map_err(fail)?;
    let mut command = launch::command(words);
    command.stdin(OwnedFd::from(theirs)).stdout(stdout).stderr(stderr);
    // Ctrl-C in gdb must stop the guest through gdb, and must not end the QEMU process.
    command.process_group(0);
    command.spawn().map_err(fail)?;
    drop(command);
    if monitor::is_ready(ours) {
        return Ok(());
    }
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    Err(Error::Host(format!("QEMU did not start:\n{}", text.trim_end())))
}

fn is_in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Quotes a file name for gdb.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn entry_symbol(kernel: &Path) -> Option<String> {
    let bytes = std::fs::read(kernel).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let is_entry = |name: &str| name.contains(ENTRY_NAME);
    let found = file.symbols().find(|symbol| symbol.is_definition() && symbol.name().is_ok_and(is_entry))?;
    Some(format!("*{:#x}", found.address()))
}
