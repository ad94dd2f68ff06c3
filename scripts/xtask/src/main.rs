//! Ringside's host tool: builds the kernel and its programs, runs them under QEMU, tests them, debugs them.
//!
//! `build` makes the kernel's ELF with the programs inside; `run` boots it and judges the run by QEMU's
//! exit status *and* the kernel's completion records ([`verify`]); `test` runs every check and every QEMU
//! case; `gdb` starts QEMU stopped, with gdb attached.
#![forbid(unsafe_code)]

mod archive;
mod bench;
mod broken;
mod browser;
mod build;
mod cargo;
mod cases;
mod checks;
mod cli;
mod cmdline;
mod console;
mod counters;
mod cpu_state;
mod error;
mod executable;
mod facts;
mod fuzz;
mod gdb;
mod guest_memory;
mod hostile;
mod inject;
mod launch;
mod layers;
mod monitor;
mod mutants;
mod programs;
mod qemu;
mod recording;
mod replay;
mod report;
mod run;
mod screen;
mod serial_ports;
mod session;
mod soft_float;
mod stress;
mod suite;
mod symbols;
mod toolchain;
mod trace;
mod tree;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
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
        Command::Trace(options) => trace::run(&options),
        Command::Launch { parent, command } => launch::become_child(parent, &command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        error.exit_code()
    })
}
