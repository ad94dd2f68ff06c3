//! Measures the cost of the guards on the system-call path: the round trip of a null system call in instructions, with
//! all guards, without each one, and without any of them.

use std::path::Path;
use std::process::Command;

use machine::build;
use machine::cargo::Show;
use machine::error::Error;
use machine::report::aligned;
use output::print;

use super::kernels;
use super::table::find;
use crate::cases::round_trip_figure;

/// The mutants whose guards execute instructions in every system call. The other guards do not execute instructions in
/// system calls: the `syscall` instruction clears the flags, and all other state is set up at boot.
const ON_THE_PATH: [&str; 2] = ["syscall-number-unchecked", "sysret-with-tf"];

/// Builds and measures all kernels, and prints a table.
pub fn print() -> Result<(), Error> {
    let with = round_trip(&build::everything(Show::Slow)?.kernel)?;
    let mut rows = vec![row("all guards", with, with)];
    let mutants = ON_THE_PATH.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    for mutant in &mutants {
        let without = round_trip(&kernels::with(&[mutant], &[], Show::Slow)?)?;
        rows.push(row(&format!("with mutant {}", mutant.name), without, with));
    }
    let without = round_trip(&kernels::with(&mutants, &[], Show::Slow)?)?;
    rows.push(row("with both mutants", without, with));
    print!("{}", aligned(&[("KERNEL", false), ("INSTRUCTIONS", true), ("SAVED", true)], rows.into_iter()));
    Ok(())
}

fn row(name: &str, instructions: f64, with: f64) -> [String; 3] {
    [name.to_owned(), format!("{instructions:.0}"), format!("{:.0}", with - instructions)]
}

/// Measures the instructions of a null system call, including the measuring loop.
fn round_trip(kernel: &Path) -> Result<f64, Error> {
    let tool = std::env::current_exe();
    let tool =
        tool.map_err(|error| Error::File("cannot find the host tool's executable".to_owned(), error))?;
    let mut command = Command::new(&tool);
    command.args(["run", "--as-built", "--kernel"]).arg(kernel);
    command.args(["--icount", "--smp", "1", "roundtrip", "10000"]);
    let output = command.output().map_err(|error| Error::file("start", &tool, error))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    round_trip_figure(&stdout)
        .ok_or_else(|| Error::Host(format!("the round trip was not measured:\n{stdout}")))
}
