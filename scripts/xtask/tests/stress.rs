//! Tests `stress` and `merge` as called by a user. A script that prints a guest's output replaces QEMU.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests write their own files, and a failed write fails the test"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

mod script;

const BOOT: &str = "@ringside boot cpus_found=1 cpus_online=1 x2apic=1 tick_hz=100 tsc_hz=1 apic_timer_hz=1 \
                    clock=hpet memory_kib=1 per_cpu_kib=1 bring_up_ns=1";
/// Line 0 of CPU 0 with seed 1, computed from the definition of the numbered lines.
const LINE: &str = "[cpu0] w 0 0 910a2dec89025cc1910a2dec89025cc1910a2dec89025cc1910a2dec89025cc191";
const LAST: &str = "[cpu0] stress: seed=0x1 calls=5 lines=1 counts=3,2,0,1,1,0,0,0,0,0,0,0,0,0,0,0,1";
const CALLS: &str = "@ringside calls cpu=0 counts=3,2,0,1,1,0,0,0,0,0,0,0,0,0,0,0,1";

fn cpu(code: i32) -> String {
    format!(
        "@ringside cpu cpu=0 apic_id=0 program=\"stress\" outcome=exited code={code} starts=1 killed=0 syscalls=8 ticks=1 \
         tick_millihertz=0 reason=\"\""
    )
}

fn verdict(outcome: &str) -> String {
    format!("@ringside verdict outcome={outcome} records=1 warnings=0")
}

/// Returns the output of a correct boot with seed 1.
fn passing() -> Vec<String> {
    let (cpu, verdict) = (cpu(0), verdict("pass"));
    [LINE, LAST, BOOT, CALLS, &cpu, &verdict].map(str::to_owned).into()
}

/// Creates a directory with a fake QEMU that prints these lines and exits with this status.
fn fake_qemu(lines: &[String], status: i32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let path = folder.path().join("it's a qemu");
    script::write(&path, &format!("cat <<'END'\n{}\nEND\nexit {status}", lines.join("\n")));
    (folder, path)
}

fn xtask(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(arguments)
        .env_remove("RINGSIDE_QEMU")
        .stdin(Stdio::null())
        .output()
        .expect("cannot start the host tool")
}

fn stress(lines: &[String], status: i32, arguments: &[&str]) -> Output {
    let (_folder, qemu) = fake_qemu(lines, status);
    let qemu = qemu.to_str().expect("invalid UTF-8");
    // Use a separate directory for each boot, because concurrent tests use the same seeds.
    static BOOTS: AtomicU32 = AtomicU32::new(0);
    let logs = format!("{}/{}", env!("CARGO_TARGET_TMPDIR"), BOOTS.fetch_add(1, Ordering::Relaxed));
    let report = report(&logs);
    let order = ["stress", "--as-built", "--log-dir", &logs, "--report", &report];
    let order = [&order[..], &["--calls", "5", "--smp", "1", "--qemu", qemu]].concat();
    let output = xtask(&[&order, arguments].concat());
    assert!(Path::new(&report).exists(), "every campaign that is not aborted writes a report");
    output
}

/// Returns the path of the report of the boot with this log directory.
fn report(logs: &str) -> String {
    format!("{logs}-report.html")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn boot_without_errors_is_a_pass() {
    let output = stress(&passing(), 33, &["--seed", "1"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("pass: 1 of 1 boot passed; 8 system calls"), "{stdout}");
    assert!(stderr.contains("reproduce with: cargo xtask stress --smp 1 --qemu "), "{stderr}");
    let page = stderr
        .lines()
        .find_map(|line| line.strip_prefix("report: "))
        .expect("there must be a path of the report");
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page))
        .expect("cannot read the report");
    assert!(page.contains("<td class=\"n\" data-field=\"syscalls\">8</td>"), "{page}");
    // The fake QEMU has no guest memory, so the page must explain why there is no trace.
    assert!(page.contains("There is no trace of this boot: no trace in the guest&#39;s memory"), "{page}");
    assert!(!stderr.contains("w 0 0 "), "the program's numbered lines must not be shown: {stderr}");
    let verbose = stress(&passing(), 33, &["--seed", "1", "--verbose"]);
    assert!(text(&verbose.stderr).contains("[cpu0] w 0 0 "));
}

#[test]
fn miscounted_call_is_a_failure_that_names_it() {
    let mut lines = passing();
    lines[3] = CALLS.replace("counts=3,", "counts=4,");
    let output = stress(&lines, 33, &["--seed", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let what = "CPU 0: SYS_NULL (0): the program made 3 calls, but the kernel counted 4";
    assert!(stdout.contains(what) && stderr.contains(what), "{stdout}{stderr}");
    let replay = stdout
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("reproduce with: "))
        .expect("there must be a command");
    assert_eq!(
        shlex::split(replay).expect("the words must be valid in a shell").last().map(String::as_str),
        Some("0x1"),
        "{replay}"
    );
    let log =
        stdout.lines().find_map(|line| line.trim_start().strip_prefix("log: ")).expect("there must be a log");
    // Paths inside the tree are printed relative to its top.
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let kept = std::fs::read_to_string(top.join(log)).expect("cannot read the log");
    assert!(
        kept.starts_with(&format!("$ {replay}\n")) && kept.contains(LAST) && kept.contains(what),
        "{kept}"
    );
}

#[test]
fn violation_is_reported_with_its_cpu_and_call() {
    let violation = "[cpu0] stress: VIOLATION cpu=0 call=7 number=0x0: expected rbx 0x1 got 0x2";
    let (cpu, verdict) = (cpu(3), verdict("failed"));
    let lines = [LINE, violation, LAST, BOOT, CALLS, &cpu, &verdict].map(str::to_owned);
    let output = stress(&lines, 35, &["--seed", "1", "--json", "-"]);
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).expect("the output must be JSON only");
    let problems = result["boots"][0]["problems"].as_array().expect("there must be problems");
    assert_eq!(problems.len(), 1, "the exit code must not be reported as well: {result}");
    assert_eq!(problems[0]["what"], "CPU 0: violation: call=7 number=0x0: expected rbx 0x1 got 0x2");
    assert_eq!(problems[0]["cpu"], 0);
}

#[test]
fn panic_is_status_3_and_a_silent_guest_status_4() {
    let panic =
        ["@ringside panic cpu=0 message=\"injected\"".to_owned(), verdict("panic").replace("=1", "=0")];
    assert_eq!(stress(&panic, 37, &[]).status.code(), Some(3));
    let (folder, qemu) = fake_qemu(&[], 0);
    std::fs::write(&qemu, "#!/bin/sh\nexec sleep 1000 </dev/null\n").expect("cannot write the script");
    let qemu = qemu.to_str().expect("invalid UTF-8");
    let logs = env!("CARGO_TARGET_TMPDIR");
    let output =
        xtask(&["stress", "--as-built", "--no-report", "--log-dir", logs, "--timeout", "1", "--qemu", qemu]);
    assert_eq!(output.status.code(), Some(4));
    drop(folder);
    assert_eq!(
        xtask(&["stress", "--as-built", "--log-dir", logs, "--qemu", "/nonexistent"]).status.code(),
        Some(5)
    );
    assert_eq!(xtask(&["stress", "--mix", "nil=1"]).status.code(), Some(2));
}

#[test]
fn campaign_stops_at_a_failure_without_keep_going() {
    // The fake prints the output for seed 1, so only seed 1 passes.
    let campaign = |arguments: &[&str]| {
        let output = stress(&passing(), 33, &[&["--seeds", "1..5", "--json", "-"], arguments].concat());
        assert_eq!(output.status.code(), Some(1));
        serde_json::from_slice::<Value>(&output.stdout).expect("the output must be JSON only")
    };
    let outcomes = |result: &Value| {
        let boots = result["boots"].as_array().expect("there must be boots").clone();
        boots.iter().map(|boot| boot["outcome"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    let stopped = campaign(&[]);
    assert_eq!(outcomes(&stopped), ["pass", "failed"]);
    assert_eq!(stopped["not_booted"], serde_json::json!(["0x3", "0x4"]));
    for arguments in [["--keep-going", "--jobs", "1"], ["--keep-going", "--jobs", "3"]] {
        let complete = campaign(&arguments);
        assert_eq!(outcomes(&complete), ["pass", "failed", "failed", "failed"]);
        assert_eq!(complete["not_booted"], serde_json::json!([]));
    }
}

#[test]
fn unknown_feature_or_mutant_is_a_usage_error() {
    for option in ["--feature", "--mutant"] {
        for arguments in
            [&["stress", "--print-jobs"][..], &["stress", "--as-built"], &["hostile", "--as-built"]]
        {
            let output = xtask(&[arguments, &[option, "nosuch"]].concat());
            assert_eq!(output.status.code(), Some(2), "{arguments:?} {option}");
            assert!(text(&output.stderr).contains("nosuch"), "{}", text(&output.stderr));
        }
    }
}

/// The tool may be called in any directory, and QEMU starts there.
#[test]
fn hostile_passes_its_program_by_a_path_that_exists_in_any_directory() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let qemu = folder.path().join("qemu");
    let search =
        "while [ $# -gt 0 ]; do case $1 in -initrd) [ -e \"$2\" ] && echo found >found ;; esac; shift; done";
    script::write(&qemu, search);
    let seed = format!("{:#x}", std::process::id());
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["hostile", "--as-built", "--seed", &seed, "--qemu"]).arg(&qemu);
    let output = command.current_dir(folder.path()).stdin(Stdio::null()).output().expect("cannot start");
    assert!(folder.path().join("found").exists(), "{}", text(&output.stderr));
}

#[test]
fn print_jobs_prints_commands_whose_results_merge() {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let (_qemu_folder, qemu) = fake_qemu(&passing(), 33);
    let results = format!("{}/{{seed}}.json", folder.path().display());
    let logs = env!("CARGO_TARGET_TMPDIR");
    let order =
        ["--smp", "1", "--calls", "5", "--seeds", "1..=2", "--as-built", "--log-dir", logs, "--no-report"];
    let order = [&order[..], &["--json", &results, "--qemu"]].concat();
    let output = xtask(
        &[["stress", "--print-jobs"].as_slice(), &order, &[qemu.to_str().expect("invalid UTF-8")]].concat(),
    );
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let jobs: Vec<_> = text(&output.stdout).lines().filter_map(shlex::split).collect();
    assert_eq!(jobs.len(), 2);
    let statuses: Vec<_> = jobs
        .iter()
        .map(|job| {
            assert_eq!(job[..3], ["cargo", "xtask", "stress"]);
            xtask(&job[2..].iter().map(String::as_str).collect::<Vec<_>>()).status.code()
        })
        .collect();
    assert_eq!(statuses, [Some(0), Some(1)]);
    let file = |seed: u32| folder.path().join(format!("{seed:#x}.json")).display().to_string();
    let (one, two) = (file(1), file(2));
    assert_eq!(xtask(&["merge", &one]).status.code(), Some(0));
    let page = folder.path().join("page.html");
    let merged = xtask(&["merge", &one, &two, "--report", page.to_str().expect("invalid UTF-8")]);
    let page = std::fs::read_to_string(page).expect("cannot read the report");
    assert!(
        page.contains("title=\"0x1 pass, 8 calls\"") && page.contains("title=\"0x2 failed, 8 calls: "),
        "{page}"
    );
    assert!(page.contains("it&#39;s a qemu"), "the replay command, escaped");
    assert_eq!(merged.status.code(), Some(1));
    assert!(text(&merged.stdout).contains("failed: 1 of 2 boots passed"), "{}", text(&merged.stdout));
    // One result is missing, and another is a duplicate.
    let lost = xtask(&["merge", &one, "--seeds", "1..=2"]);
    assert_eq!(lost.status.code(), Some(5));
    assert!(text(&lost.stderr).contains("seeds not booted: 1 (0x2)"), "{}", text(&lost.stderr));
    let twice = xtask(&["merge", &one, &one]);
    assert_eq!(twice.status.code(), Some(0));
    assert!(text(&twice.stderr).contains("it counts once"), "{}", text(&twice.stderr));
    assert_eq!(xtask(&["merge", qemu.to_str().expect("invalid UTF-8")]).status.code(), Some(2));
}
