//! The subcommand `fuzz` and the check `check::fuzz`: builds the fuzz targets in `kernel/fuzz` with the flags that
//! libFuzzer needs, and runs each on a number of inputs derived from the seeds in the tree.
//!
//! `cargo fuzz run TARGET` in `kernel/` runs the same targets. This subcommand needs neither `cargo fuzz` nor a nightly
//! compiler. The nightly compiler is needed for sanitizers, which the targets do not need: they are safe Rust, and a
//! violated property is a panic.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use machine::cargo;
use machine::cargo::Show;
use machine::error::Error;
use machine::toolchain::host_cargo;
use machine::tree::{relative, root};
use output::println;

/// The targets, one for each parser of external input.
pub const TARGETS: [&str; 5] = ["topology", "acpi_tables", "program", "cmdline", "user_slice"];

/// The default number of inputs for each target. It is a number instead of a time so that all hosts run equally many
/// inputs.
pub const RUNS: u32 = 100_000;
/// The default seed of libFuzzer's random choices. The choices depend on memory addresses too, so only the saved input
/// reproduces a failure reliably.
pub const SEED: u32 = 1;

/// Flags for the coverage counters and comparison tracing that libFuzzer needs. `cargo fuzz` sets the same flags
/// (libFuzzer's manual, "Fuzzer usage"; rustc's `-C passes`).
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Options of `fuzz`.
#[derive(Args, Clone, Debug)]
pub struct FuzzOptions {
    /// The targets. Default: all.
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    pub targets: Vec<String>,

    /// The number of inputs for each target.
    #[arg(long, value_name = "N", default_value_t = RUNS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,

    /// The seed of libFuzzer's random choices.
    #[arg(long, value_name = "SEED", default_value_t = SEED)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub seed: u32,
}

/// Runs the named targets, or all targets.
pub fn run(options: &FuzzOptions) -> Result<ExitCode, Error> {
    let built = build(Show::Slow)?;
    let is_selected =
        |target: &str| options.targets.is_empty() || options.targets.iter().any(|name| name == target);
    for target in TARGETS.into_iter().filter(|target| is_selected(target)) {
        let summary = run_target(&built, target, options.runs, options.seed).map_err(Error::Host)?;
        println!("{target:12} {summary}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs all targets, for the suite.
pub fn check() -> Result<(), String> {
    let built = build(Show::Trouble).map_err(|error| error.to_string())?;
    TARGETS.iter().try_for_each(|target| run_target(&built, target, RUNS, SEED).map(drop))
}

fn folder() -> PathBuf {
    root().join("target/fuzz")
}

/// Builds the targets. Returns the directory of the executables.
fn build(show: Show) -> Result<PathBuf, Error> {
    let host = host_triple()?;
    let mut command = host_cargo();
    command.args(["build", "--release", "--locked", "--manifest-path", "kernel/fuzz/Cargo.toml"]);
    // With `--target`, the flags do not apply to build scripts, which are not linked with libFuzzer.
    command.args(["--target", &host, "--target-dir"]).arg(folder());
    command.env("RUSTFLAGS", FLAGS.join(" "));
    cargo::build(command, "the fuzz targets", show)?;
    Ok(folder().join(host).join("release"))
}

fn host_triple() -> Result<String, Error> {
    let output = host_cargo().arg("-vV").output();
    let output = output.map_err(|error| Error::File("cannot start cargo".to_owned(), error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned);
    host.ok_or_else(|| Error::Host("`cargo -vV` does not name the host triple".to_owned()))
}

/// Runs one target on its seeds and mutations of them. Returns the last line of libFuzzer's output. The error names the
/// input that violates a property and the command that reproduces the failure.
fn run_target(built: &Path, target: &str, runs: u32, seed: u32) -> Result<String, String> {
    let place = |path: &Path, error: std::io::Error| format!("cannot write {}: {error}", path.display());
    // New inputs are written to a new directory, so that no run depends on an earlier one.
    let corpus = folder().join("corpus").join(target);
    let artifacts = folder().join("artifacts").join(target);
    let _ = std::fs::remove_dir_all(&corpus);
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder).map_err(|error| place(folder, error))?;
    }
    let seeds = root().join("kernel/fuzz/seeds").join(target);
    let mut command = Command::new(built.join(target));
    command.arg(format!("-runs={runs}")).arg(format!("-seed={seed}")).args(["-max_len=2048", "-reload=0"]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus).arg(&seeds);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot start the fuzz target {target}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let done = text.lines().find(|line| line.starts_with("Done ") || line.contains("\tDONE "));
    match done {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(failure(target, seed, runs, built, &text)),
    }
}

/// Formats a failure: the beginning of the panic, and the commands that reproduce it.
fn failure(target: &str, seed: u32, runs: u32, built: &Path, text: &str) -> String {
    const SHOWN: usize = 30;
    let input = text.lines().find_map(|line| line.split("Test unit written to ").nth(1)).unwrap_or("");
    let from = text.lines().position(|line| line.contains("panicked at")).unwrap_or(0);
    let shown = text.lines().skip(from).take(SHOWN).collect::<Vec<_>>().join("\n");
    let program = relative(&built.join(target)).display().to_string();
    format!(
        "the fuzz target {target} violated a property (seed {seed}, {runs} runs):\n{shown}\n\n\
         reproduce with: {program} {}\n                cargo xtask fuzz {target} --seed {seed} --runs {runs}",
        relative(Path::new(input)).display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_crate_and_have_seeds() {
        let manifest =
            std::fs::read_to_string(root().join("kernel/fuzz/Cargo.toml")).expect("cannot read the file");
        let bins: Vec<_> =
            manifest.split("[[bin]]").skip(1).filter_map(|text| text.split('"').nth(1)).collect();
        assert_eq!(bins, TARGETS);
        for target in TARGETS {
            let seeds = std::fs::read_dir(root().join("kernel/fuzz/seeds").join(target)).expect("seeds");
            assert!(seeds.count() >= 5, "{target}");
        }
    }

    #[test]
    fn failure_names_the_commands_that_reproduce_it() {
        let text = "INFO: Seed: 1\nthread panicked at kernel/src/properties.rs:7:\nleft: 1\n\
                    artifact_prefix='x'; Test unit written to /nowhere/crash-1\n";
        let shown = failure("cmdline", 1, 9, &root().join("target/fuzz/h/release"), text);
        assert!(shown.contains("properties.rs:7:\nleft: 1"), "{shown}");
        assert!(
            shown.contains("reproduce with: target/fuzz/h/release/cmdline /nowhere/crash-1\n"),
            "{shown}"
        );
        assert!(shown.contains("cargo xtask fuzz cmdline --seed 1 --runs 9"), "{shown}");
    }
}
