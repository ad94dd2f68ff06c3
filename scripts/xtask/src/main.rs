//! Ringside's host tool. It builds the kernel and its programs, runs them under QEMU, tests them and debugs them.
//!
//! `build` builds the kernel's ELF with the programs inside; `run` boots it and determines the outcome from QEMU's
//! exit status *and* the kernel's completion records ([`machine::verify`]); `test` runs every check and every QEMU
//! case; `gdb` starts QEMU stopped, with gdb attached.
#![forbid(unsafe_code)]

mod broken;
mod browser;
mod cases;
mod checks;
mod cli;
mod fuzz;
mod layers;
mod logs;
mod mutants;
mod soft_float;
mod suite;

use std::process::ExitCode;

use campaign::{hostile, stress};
use clap::Parser;
use machine::{build, cargo, launch};
use runner::{bench, gdb, run};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    build::build_mutants_with(mutants::kernel);
    let result = match Cli::parse().command {
        Command::Build => build::everything(cargo::Show::Progress).and_then(|built| {
            build::print(&built)?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Run(options) => run::run(&options),
        Command::Gdb(options) => gdb::gdb(&options),
        Command::Test(options) => suite::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Inject(options) => inject::run(&options),
        Command::Stress(options) => stress::run(&options),
        Command::Hostile(options) => hostile::run(&options),
        Command::Merge(options) => stress::merge(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Trace(options) => trace::run(&options).map_err(Into::into),
        Command::Launch { parent, command } => launch::become_child(parent, &command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        error.exit_code()
    })
}
