//! The subcommand `machines`: boots a program on many kinds of machines. Each must pass, or be rejected with one of the
//! expected error messages.

mod rows;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use machine::cargo::Show;
use machine::error::Error;
use machine::tree::root;
use machine::{build, programs};
use output::{count, println};
use serde_json::Value;

/// Options of `machines`.
#[derive(Args, Clone, Debug)]
pub struct MachinesOptions {
    /// Runs only the machines whose options contain one of these words. Default: all.
    pub filter: Vec<String>,

    /// Runs all CPU models, CPU features and machine types that QEMU lists, and many topologies, instead of twelve
    /// machines.
    #[arg(long)]
    pub all: bool,

    /// The program that the CPUs run.
    #[arg(long, default_value = "selftest", value_name = "NAME")]
    pub program: String,

    /// Time limit of each run in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,

    /// The QEMU binary to use.
    #[arg(long, env = "RINGSIDE_QEMU", default_value = "qemu-system-x86_64", value_name = "PATH")]
    pub qemu: PathBuf,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The program exited with code 0 on every CPU.
    Passed,
    /// The machine cannot run the kernel. The text names what is missing.
    Refused(String),
    /// Anything else, with what the host tool reported.
    Failed(String),
}

/// Parts of the error messages that reject a machine: they name what the machine lacks or what QEMU does not accept.
const REFUSALS: [&str; 5] = [
    "this CPU lacks ",
    "cannot start the kernel, because ",
    "give it at least ",
    "QEMU could not start this machine",
    "this machine has no clock ",
];

/// Runs the table, and prints a line for each machine. The exit status is 1 if a machine failed.
pub fn run(options: &MachinesOptions) -> Result<ExitCode, Error> {
    programs::resolve(&options.program, &programs::embedded()?)?;
    build::everything(Show::Progress)?;
    let rows = match options.all {
        true => rows::all(&help(&options.qemu, "-cpu")?, &help(&options.qemu, "-machine")?),
        false => rows::few(),
    };
    let is_selected = |row: &String| {
        options.filter.is_empty() || options.filter.iter().any(|word| row.contains(word.as_str()))
    };
    let rows: Vec<_> = rows.into_iter().filter(is_selected).collect();
    if rows.is_empty() {
        return Err(Error::Usage(format!("no machine has {:?} in its options", options.filter.join(" or "))));
    }
    let (mut passed, mut refused, mut failed) = (0, 0, 0);
    for row in &rows {
        let text = match boot(options, row)? {
            Verdict::Passed => {
                passed += 1;
                "passed".to_owned()
            }
            Verdict::Refused(why) => {
                refused += 1;
                format!("rejected: {why}")
            }
            Verdict::Failed(why) => {
                failed += 1;
                format!("FAILED: {why}")
            }
        };
        println!("{row:<44} {text}");
    }
    println!("{}: {passed} passed, {refused} rejected, {failed} failed", count(rows.len() as u64, "machine"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the twelve machines of the suite with a program that ends immediately.
pub fn check() -> Result<(), String> {
    let options = MachinesOptions {
        filter: Vec::new(),
        all: false,
        program: "hello".to_owned(),
        timeout: 120,
        qemu: std::env::var_os("RINGSIDE_QEMU").map_or("qemu-system-x86_64".into(), PathBuf::from),
    };
    for row in rows::few() {
        if let Verdict::Failed(why) = boot(&options, &row).map_err(|error| error.to_string())? {
            return Err(format!("{row}: {why}\n\nreproduce with: cargo xtask machines"));
        }
    }
    Ok(())
}

/// Returns what QEMU prints about an option.
fn help(qemu: &Path, option: &str) -> Result<String, Error> {
    let output = Command::new(qemu).args([option, "help"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::file("start", qemu, error))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the program on a machine.
fn boot(options: &MachinesOptions, row: &str) -> Result<Verdict, Error> {
    // The executable file may have been replaced by a newer build.
    let mut command = Command::new("/proc/self/exe");
    command.args(["run", "--as-built", "--quiet", "--json", "-", "--timeout", &options.timeout.to_string()]);
    command.arg("--qemu").arg(&options.qemu).args(row.split_whitespace()).arg(&options.program);
    let output = command.stdin(Stdio::null()).current_dir(root()).output();
    let output = output.map_err(|error| Error::File("cannot start the host tool".to_owned(), error))?;
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let errors = json["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let errors: Vec<_> = errors.iter().filter_map(Value::as_str).collect();
    Ok(verdict(output.status.code(), &errors))
}

/// Determines the verdict on a run from the host tool's exit status and errors.
fn verdict(status: Option<i32>, errors: &[&str]) -> Verdict {
    // One line: the last line of QEMU's message is the error, the others are warnings.
    let lines = errors.iter().filter_map(|error| error.trim_end().lines().last());
    let text = lines.collect::<Vec<_>>().join("; ");
    match status {
        Some(0) => Verdict::Passed,
        Some(2 | 3 | 5) if REFUSALS.iter().any(|part| text.contains(part)) => Verdict::Refused(text),
        Some(status) => Verdict::Failed(format!("status {status}: {text}")),
        None => Verdict::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_expected_error_rejects_a_machine() {
        assert_eq!(verdict(Some(0), &[]), Verdict::Passed);
        let lacking = "CPU 0 panicked: this CPU lacks SSE2: choose -cpu max";
        assert_eq!(verdict(Some(3), &[lacking]), Verdict::Refused(lacking.to_owned()));
        let qemu = ["QEMU could not start this machine (exit status 1)", "QEMU printed: warning: x\nbad CPU"];
        assert_eq!(
            verdict(Some(5), &qemu),
            Verdict::Refused("QEMU could not start this machine (exit status 1); bad CPU".to_owned())
        );
        for (status, error) in [
            (Some(3), "the guest was reset, or QEMU received a quit command, before the kernel's verdict"),
            (Some(3), "CPU 0 panicked: #UD in ring 0"),
            (Some(4), "the run timed out before the kernel's verdict"),
            (Some(1), lacking),
            (None, ""),
        ] {
            assert!(matches!(verdict(status, &[error]), Verdict::Failed(_)), "{status:?} {error}");
        }
    }
}
