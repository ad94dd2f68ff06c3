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
mod leaf_handlers;
mod logs;
mod machines;
mod mutants;
mod qemus;
mod soft_float;
mod suite;

use std::process::ExitCode;

use campaign::{hostile, stress};
use machine::build::Mutants;
use machine::options::Boot;
use machine::verify::Outcome;
use machine::{build, cargo};
use output::Memory;
use runner::{gdb, images, run, tool};

use crate::cli::Command;

/// The allocator. If there is no memory left, the tool ends with a host failure.
#[global_allocator]
static MEMORY: Memory = Memory::or_exit(Outcome::Host.status() as i32);

fn main() -> ExitCode {
    tool::main(command)
}

/// Executes the command line, and returns the exit status.
fn command() -> ExitCode {
    build::register_mutants(Mutants { build: mutants::kernel, check: mutants::check_names });
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return tool::usage(&error),
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
        Command::Qemus(options) => qemus::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Inject(options) => inject::run(&options),
        Command::Stress(options) => stress::run(&options),
        Command::Hostile(options) => hostile::run(&options),
        Command::Merge(options) => stress::merge(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Trace(options) => trace::run(&options, machine::traced::find).map_err(Into::into),
    };
    tool::status(result)
}
