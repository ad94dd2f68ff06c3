//! Tests the host tool's exit status. A script that prints a guest's output replaces QEMU.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests write their own files, and a failed write fails the test"
)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

mod script;

const BOOT: &str = "@ringside boot cpus_found=1 cpus_online=1 x2apic=1 tick_hz=100 tsc_hz=1 apic_timer_hz=1 \
                    clock=hpet memory_kib=1 per_cpu_kib=1 bring_up_ns=1";
const CPU: &str = "@ringside cpu cpu=0 apic_id=0 program=\"hello\" outcome=exited code=0 starts=1 killed=0 syscalls=1 ticks=1 \
                   tick_millihertz=0 reason=\"\"";
const PASS: &str = "@ringside verdict outcome=pass records=1 warnings=0";

/// Creates a directory with a fake QEMU that runs these shell commands. Returns the directory and the fake's path.
fn fake_qemu(script: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    // This name needs quoting in a shell and in QEMU's options.
    let path = folder.path().join("a fake, 'quoted' qemu");
    script::write(&path, script);
    (folder, path)
}

fn run(script: &str, arguments: &[&str]) -> Output {
    let (_folder, qemu) = fake_qemu(script);
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["run", "--as-built", "--qemu"]).arg(qemu).args(arguments);
    command.stdin(Stdio::null()).output().expect("cannot start the host tool")
}

fn status(script: &str) -> Option<i32> {
    run(script, &["hello"]).status.code()
}

fn printing(lines: &[&str], status: i32) -> String {
    format!("cat <<'END'\n{}\nEND\nexit {status}", lines.join("\n"))
}

#[test]
fn complete_records_and_status_33_are_a_pass() {
    let output = run(&printing(&["[cpu0] hi", BOOT, CPU, PASS], 33), &["hello"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("\n[cpu0] hi\n"), "{stdout}");
    assert!(!stdout.contains("@ringside"), "records are for the tool: {stdout}");
}

#[test]
fn status_33_without_records_does_not_count_as_a_pass() {
    assert_eq!(status("exit 33"), Some(5));
    assert_eq!(status(&printing(&[BOOT, PASS], 33)), Some(3));
}

#[test]
fn every_other_status_is_a_failure() {
    for other in [0, 1, 2, 34, 35, 37, 39] {
        assert_eq!(status(&printing(&[BOOT, CPU, PASS], other)), Some(3), "status {other}");
    }
}

#[test]
fn qemu_that_does_not_start_is_a_host_failure_with_its_message() {
    let output = run("echo 'no such machine' >&2; exit 1", &["hello"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no such machine"));
    assert_eq!(status("kill -ABRT $$"), Some(5));
}

#[test]
fn qemu_that_cannot_use_the_memory_file_is_started_without_it() {
    let refusing = "case $* in *memory-backend*) echo 'no such property' >&2; exit 1 ;; esac";
    let script = format!("{refusing}\n{}", printing(&[BOOT, CPU, PASS], 33));
    assert_eq!(status(&script), Some(0));
    let output = run("echo 'no such machine' >&2; exit 1", &["hello"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches("no such machine").count(), 1);
}

#[test]
fn quiet_run_shows_warnings() {
    let missing = "@ringside cpu cpu=1 apic_id=7 program=\"\" outcome=missing code=0 starts=0 killed=0 syscalls=0 ticks=0 \
                   tick_millihertz=0 reason=\"it did not answer\"";
    let lines = [
        "[cpu0] ringside: warning: the CPU with APIC id 7 did not come online; continuing without it",
        "[cpu0] ringside: warning: the PIT does not count",
        &BOOT.replace("found=1", "found=2"),
        CPU,
        missing,
        &PASS.replace("records=1 warnings=0", "records=2 warnings=2"),
    ];
    let output = run(&printing(&lines, 33), &["-q", "hello"]);
    assert_eq!(output.status.code(), Some(0));
    let expected =
        "warning: CPU 1 (APIC id 7) is missing: it did not answer\nwarning: the PIT does not count\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert!(output.stdout.is_empty());
}

#[test]
fn compiler_that_does_not_run_is_reported_with_its_message() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    script::write(&folder.path().join("rustc"), "echo 'no memory left' >&2; exit 1");
    let build = |path: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["run", "hello"]).env("PATH", path).stdin(Stdio::null()).output().expect("cannot start")
    };
    let output = build(folder.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("rustc does not run") && stderr.contains("no memory left"), "{stderr}");
    // A file that the system does not execute.
    std::fs::remove_file(folder.path().join("rustc")).expect("cannot remove");
    std::fs::write(folder.path().join("rustc"), "").expect("cannot write");
    let output = build(folder.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("cannot start rustc: Permission denied"), "{stderr}");
    let output = build(&folder.path().join("none"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("no Rust toolchain"), "{stderr}");
}

#[test]
fn silent_qemu_is_killed_at_the_time_limit() {
    let output = run("exec sleep 1000 </dev/null", &["--timeout", "1", "hello"]);
    assert_eq!(output.status.code(), Some(4));
}

/// A machine that QEMU pauses after its first line. The id is the last member of a command.
const PAUSED: &str = r#"say() { printf '%s\n' "$1" >&0; }
say '{"QMP": {}}'; read -r capabilities; say '{"return": {}}'
echo '[cpu0] hi'
echo 'KVM internal error. Suberror: 1' >&2
say '{"event": "STOP"}'
while read -r command; do
  id=${command##*:}
  say '{"return": {"running": false, "status": "internal-error"}, "id": '"${id%?}"'}'
done"#;

#[test]
fn machine_that_qemu_pauses_is_a_host_failure_at_once() {
    let output = run(PAUSED, &["--timeout", "60", "hello"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("its run state is \"internal-error\""), "{stderr}");
    assert!(stderr.contains("KVM internal error. Suberror: 1"), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("[cpu0] hi\n"));
}

#[test]
fn pause_under_the_users_debugger_or_monitor_is_not_a_failure() {
    for option in ["--gdb", "--qemu-arg=-s", "--qemu-arg=--monitor"] {
        let output = run(PAUSED, &["--timeout", "1", option, "hello"]);
        assert_eq!(output.status.code(), Some(4), "{option}");
    }
}

#[test]
fn killed_qemu_is_noticed_even_if_its_child_holds_the_console() {
    let output = run("echo 'last words' >&2; sleep 40 & kill -KILL $$", &["--timeout", "30", "hello"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("signal 9") && stderr.contains("last words"), "{stderr}");
}

#[test]
fn qemu_with_endless_output_is_killed_at_the_time_limit() {
    let output = run("exec yes </dev/null", &["--timeout", "1", "--quiet", "hello"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.is_empty());
}

#[test]
fn control_characters_of_a_program_do_not_reach_the_terminal() {
    let output = run("printf '[cpu0] \\033[2J\\007\\n'; exit 33", &["hello"]);
    assert!(!output.stdout.contains(&0x1b) && !output.stdout.contains(&7));
    assert!(String::from_utf8_lossy(&output.stdout).contains("[cpu0] \\x1b[2J\\x07\n"));
}

#[test]
fn only_json_is_on_standard_output() {
    let output = run(&printing(&["[cpu0] hi", BOOT, CPU, PASS], 33), &["--json", "-", "hello"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("invalid JSON");
    assert_eq!(json["outcome"], "pass");
    assert_eq!(json["cpus"][0]["program"], "hello");
    assert_eq!(json["boot"]["cpus_online"], 1);
}

#[test]
fn json_is_written_for_every_outcome() {
    let outcome = |script: &str, arguments: &[&str]| {
        let output = run(script, &[&["--json", "-"], arguments].concat());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("invalid JSON");
        json["outcome"].as_str().expect("there must be an outcome").to_owned()
    };
    assert_eq!(outcome("echo '[cpu0] hi'; exit 0", &["hello"]), "panic");
    assert_eq!(outcome("echo 'usage: qemu'; exit 0", &["hello"]), "host");
    assert_eq!(outcome("exit 1", &["hello"]), "host");
    assert_eq!(outcome("exec sleep 1000 </dev/null", &["--timeout", "1", "hello"]), "timeout");
    assert_eq!(outcome("exit 33", &["no-such-program"]), "usage");
}

#[test]
fn log_has_the_unfiltered_console() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let log = folder.path().join("log");
    let lines = ["[cpu0] hi", BOOT, CPU, PASS];
    run(&printing(&lines, 33), &["--log", log.to_str().expect("invalid UTF-8"), "hello"]);
    assert_eq!(std::fs::read_to_string(log).expect("cannot read the log").lines().collect::<Vec<_>>(), lines);
}

#[test]
fn unknown_programs_and_options_are_usage_errors() {
    let output = run("exit 33", &["no-such-program"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("hello, "));
    assert_eq!(run("exit 33", &["--no-such-option"]).status.code(), Some(2));
    assert_eq!(run("exit 33", &["--tick-hz", "0"]).status.code(), Some(2));
    assert_eq!(run("exit 33", &["--qemu-arg", "-daemonize", "hello"]).status.code(), Some(2));
    let mut machines = Command::new(env!("CARGO_BIN_EXE_xtask"));
    machines.args(["machines", "--program", "no-such-program"]);
    assert_eq!(machines.output().expect("cannot start the host tool").status.code(), Some(2));
}

/// As with an option that makes QEMU print help.
#[test]
fn qemu_that_creates_no_machine_is_a_host_failure() {
    for script in ["exit 0", "echo 'Available netdev backend types:'", "exit 2"] {
        let output = run(script, &["hello"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{script}: {stderr}");
        assert!(stderr.contains("QEMU ended before it had created a machine"), "{script}: {stderr}");
    }
}
