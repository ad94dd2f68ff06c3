//! The checks that are not QEMU cases: format, lints, host tests, the loom model, and properties of the bare-metal
//! builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bench::figure::Report;
use bench::options::Part;
use bench::{baseline, exact};
use machine::build;
use machine::cargo::Show;
use machine::toolchain::host_cargo;
use machine::tree::{BARE_TARGET, UEFI_TARGET, relative, root};
use measure::path;

use crate::{fuzz, layers, leaf_handlers, machines, mutants, soft_float};

/// A check.
pub struct Check {
    /// The name that `test` lists and filters.
    pub name: &'static str,
    /// Runs the check and writes its output to this log. The error is a message for the user.
    pub run: fn(&Path) -> Result<(), String>,
}

/// The modules of the loom tests.
const LOOM_TESTS: &str = "loom_tests::";

/// All checks, in execution order. Quick checks and those that fail often run first.
pub const CHECKS: [Check; 16] = [
    Check { name: "check::format", run: formatted },
    Check { name: "check::layers", run: |_| layers::check(root()) },
    Check {
        name: "check::clippy",
        run: |log| {
            cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], log)
        },
    },
    Check {
        name: "check::host-tests",
        run: |log| cargo(&["test", "--workspace", "--locked", "--", "--skip", LOOM_TESTS], log),
    },
    Check { name: "check::loom", run: loom },
    Check { name: "check::fuzz", run: |_| fuzz::check() },
    Check { name: "check::build", run: |_| built().map(drop) },
    Check {
        name: "check::mutants",
        run: |_| {
            built()?;
            mutants::check().map_err(|error| error.to_string())
        },
    },
    Check { name: "check::library-none", run: |_| library(BARE_TARGET) },
    Check { name: "check::library-uefi", run: |_| library(UEFI_TARGET) },
    Check { name: "check::soft-float", run: |_| kernel_is_soft_float() },
    Check { name: "check::bench-baseline", run: |_| figures_match_the_baseline() },
    Check { name: "check::leaf-handlers", run: |_| leaf_handlers_return() },
    Check {
        name: "check::machines",
        run: |_| {
            built()?;
            machines::check()
        },
    },
    Check { name: "check::executed-path", run: |_| documented_paths() },
    Check { name: "check::kernel-size", run: |_| kernel_is_small() },
];

/// Compares the instructions that QEMU executes on the paths in docs/performance.md with that page.
fn documented_paths() -> Result<(), String> {
    built()?;
    for trip in path::Trip::ALL {
        let path = path::find(trip).map_err(|error| error.to_string())?;
        path::check_page(trip, &path, false).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Returns the path of the kernel's ELF, which contains the programs. Only the first call runs cargo.
pub fn built() -> Result<PathBuf, String> {
    use std::sync::OnceLock;
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build =
        || build::everything(Show::Trouble).map(|built| built.kernel).map_err(|error| error.to_string());
    BUILT.get_or_init(build).clone()
}

/// Checks the format of the workspace and of the fuzz targets, which are a separate workspace.
fn formatted(log: &Path) -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], log)?;
    cargo(&["fmt", "--check", "--manifest-path", "kernel/fuzz/Cargo.toml"], log)
}

fn cargo(arguments: &[&str], log: &Path) -> Result<(), String> {
    let mut command = host_cargo();
    command.args(arguments);
    logged(command, log)
}

/// Runs the loom tests, which `check::host-tests` has built.
fn loom(log: &Path) -> Result<(), String> {
    let mut command = host_cargo();
    command.args(["test", "--workspace", "--locked", "--lib", LOOM_TESTS]);
    logged(command, log)?;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let ran = text.lines().any(|line| line.starts_with("test ") && line.ends_with(" ok"));
    if ran { Ok(()) } else { Err(format!("no test has `{LOOM_TESTS}` in its name, so nothing was checked")) }
}

fn library(target: &str) -> Result<(), String> {
    build::kernel_library(target).map_err(|error| error.to_string())
}

fn kernel_is_soft_float() -> Result<(), String> {
    let found = soft_float::violations(&built()?).map_err(|error| error.to_string())?;
    if found.is_empty() { Ok(()) } else { Err(format!("the kernel uses the FPU:\n{}", found.join("\n"))) }
}

fn figures_match_the_baseline() -> Result<(), String> {
    built()?;
    let mut report = Report::new();
    report.sections = exact::sections(&Part::EXACT, &|_| ()).map_err(|error| error.to_string())?;
    let baseline = baseline::read().map_err(|error| error.to_string())?;
    let found = baseline::differences(&report, &baseline);
    if found.is_empty() {
        return Ok(());
    }
    Err(format!(
        "instruction counts differ from docs/bench-baseline.json:\n{}\nto enter them: cargo xtask bench --exact \
         --write-baseline --reason 'WHY'",
        found.join("\n")
    ))
}

fn leaf_handlers_return() -> Result<(), String> {
    let found = leaf_handlers::violations(&built()?).map_err(|error| error.to_string())?;
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("a leaf handler must not panic, block or end the program:\n{}", found.join("\n")))
    }
}

fn kernel_is_small() -> Result<(), String> {
    built()?;
    let (_, size) = build::kernel_sizes().map_err(|error| error.to_string())?;
    if size < build::KERNEL_LIMIT {
        Ok(())
    } else {
        Err(format!("the kernel has {size} bytes without programs; the limit is {}", build::KERNEL_LIMIT))
    }
}

/// Runs a command with its output in `log`. If it fails, the error contains the end of the log.
fn logged(mut command: Command, log: &Path) -> Result<(), String> {
    const TAIL: usize = 60;
    let place = |error: std::io::Error| format!("cannot write {}: {error}", log.display());
    let file = output::create(log).map_err(place)?;
    let copy = file.try_clone().map_err(place)?;
    let status = command.stdin(Stdio::null()).stdout(file).stderr(copy).status();
    let status = status.map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    if status.success() {
        return Ok(());
    }
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    Err(format!("{tail}\n{status}; the complete output is in {}", relative(log).display()))
}
