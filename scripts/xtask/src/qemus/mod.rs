//! The subcommand `qemus`: fetches several versions of QEMU from Debian's suites, and runs the self-test on each. None
//! is installed: each is unpacked in `target/qemus`.

mod fetch;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use machine::build;
use machine::cargo::Show;
use machine::error::Error;
use machine::tree::root;
use output::{count, eprintln, println};
use serde_json::Value;

/// Debian's suites with different versions of QEMU, the oldest version first.
const SUITES: [&str; 4] = ["bookworm", "bookworm-backports", "trixie", "sid"];

/// Options of `qemus`.
#[derive(Args, Clone, Debug)]
pub struct QemusOptions {
    /// The Debian suites whose QEMU is fetched. Default: all four.
    #[arg(value_name = "SUITE", value_parser = SUITES)]
    pub suites: Vec<String>,

    /// Only fetches the versions, and prints the value of `RINGSIDE_QEMU` that selects each.
    #[arg(long)]
    pub fetch: bool,

    /// Fetches versions again that were fetched earlier, because a suite may contain a newer version now.
    #[arg(long)]
    pub refresh: bool,

    /// The program that the CPUs run.
    #[arg(long, default_value = "selftest", value_name = "NAME")]
    pub program: String,

    /// The machine types.
    #[arg(long, value_delimiter = ',', default_value = "q35,pc", value_name = "TYPE,...")]
    pub machines: Vec<String>,

    /// The numbers of CPUs.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16", value_name = "N,...")]
    pub smp: Vec<u32>,

    /// Time limit of each run in seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Fetches the versions, boots each on each machine, and prints a line for each boot. The exit status is 1 if a boot
/// failed or QEMU warned.
pub fn run(options: &QemusOptions) -> Result<ExitCode, Error> {
    let is_selected =
        |suite: &&str| options.suites.is_empty() || options.suites.iter().any(|name| name == suite);
    let mut versions = Vec::new();
    for suite in SUITES.into_iter().filter(is_selected) {
        let qemu = fetch::qemu(suite, options.refresh)?;
        let version = version(&qemu)?;
        println!("{version:<10} RINGSIDE_QEMU={}", qemu.display());
        versions.push((version, qemu));
    }
    if options.fetch {
        return Ok(ExitCode::SUCCESS);
    }
    build::everything(Show::Progress)?;
    println!("{:<10} {:<8} {:>4}  RESULT", "QEMU", "MACHINE", "CPUS");
    let (mut boots, mut passed) = (0, 0);
    for (version, qemu) in &versions {
        for machine in &options.machines {
            for &cpus in &options.smp {
                let (text, good) = boot(options, qemu, machine, cpus)?;
                println!("{version:<10} {machine:<8} {cpus:>4}  {text}");
                boots += 1;
                passed += u64::from(good);
            }
        }
    }
    println!("{}: {passed} passed without a warning of QEMU", count(boots, "boot"));
    Ok(if passed == boots { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the version that QEMU prints.
fn version(qemu: &Path) -> Result<String, Error> {
    let output = Command::new(qemu).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::file("start", qemu, error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.strip_prefix("QEMU emulator version ").and_then(|rest| rest.split_whitespace().next());
    version.map(str::to_owned).ok_or_else(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        Error::Host(format!("{} prints no version: {}", qemu.display(), why.trim_end()))
    })
}

/// Runs the program on one machine. Returns the result as text, and whether the run passed without a message of QEMU.
fn boot(options: &QemusOptions, qemu: &Path, machine: &str, cpus: u32) -> Result<(String, bool), Error> {
    // The executable file may have been replaced by a newer build.
    let mut command = Command::new("/proc/self/exe");
    command.args(["run", "--as-built", "--json", "-", "--machine", machine]);
    command.args(["--smp", &cpus.to_string(), "--timeout", &options.timeout.to_string()]);
    command.arg("--qemu").arg(qemu).arg(&options.program);
    let output = command.stdin(Stdio::null()).current_dir(root()).output();
    let output = output.map_err(|error| Error::File("cannot start the host tool".to_owned(), error))?;
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let printed = String::from_utf8_lossy(&output.stderr);
    let result = result(output.status.code(), &json, messages(&printed));
    if !result.1 {
        eprintln!("{printed}");
    }
    Ok(result)
}

/// Returns what QEMU printed on its standard error, from what the host tool printed.
fn messages(printed: &str) -> Option<&str> {
    let (_, rest) = printed.split_once("\nQEMU printed: ")?;
    let end = ["\nwarning: ", "\nerror: "].iter().filter_map(|start| rest.find(start)).min();
    Some(rest[..end.unwrap_or(rest.len())].trim_end())
}

/// Determines the result of a run from the host tool's exit status, its JSON and QEMU's messages.
fn result(status: Option<i32>, json: &Value, messages: Option<&str>) -> (String, bool) {
    let mode = match json["boot"]["x2apic"].as_bool() {
        Some(true) => ", x2APIC",
        Some(false) => ", xAPIC",
        None => "",
    };
    let mut text = match status {
        Some(0) => format!("passed{mode}"),
        Some(status) => format!("FAILED: status {status}: {}", json["errors"]),
        None => "FAILED: the host tool was killed".to_owned(),
    };
    if let Some(messages) = messages {
        text += &format!("; QEMU printed: {messages}");
    }
    (text, status == Some(0) && messages.is_none())
}

/// Returns the directory of a suite.
fn folder(suite: &str) -> PathBuf {
    root().join("target/qemus").join(suite)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_of_qemu_are_separated_from_those_of_the_kernel() {
        let kernel = "[cpu0] ringside: warning: x\npass: 1.00 s\n";
        assert_eq!(messages(kernel), None);
        let printed = format!("{kernel}QEMU printed: qemu: warning: -x is deprecated\nuse -y\nwarning: z\n");
        assert_eq!(messages(&printed), Some("qemu: warning: -x is deprecated\nuse -y"));
        assert_eq!(messages("\nQEMU printed: a\n"), Some("a"));
    }

    #[test]
    fn run_is_good_only_if_it_passed_and_qemu_printed_nothing() {
        let json = json!({ "boot": { "x2apic": false }, "errors": ["e"] });
        assert_eq!(result(Some(0), &json, None), ("passed, xAPIC".to_owned(), true));
        assert_eq!(result(Some(0), &json, Some("w")), ("passed, xAPIC; QEMU printed: w".to_owned(), false));
        assert_eq!(result(Some(3), &json, None), ("FAILED: status 3: [\"e\"]".to_owned(), false));
        assert!(!result(None, &Value::Null, None).1);
    }
}
