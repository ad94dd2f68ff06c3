//! Tests of output that cannot be written: a full disk, a limit, a closed reader, a closed stream. In none of these
//! cases may the tool panic (status 101) or lose output without a message.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests write their own files, and a failed write fails the test"
)]

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

mod script;

/// The exit status of a host failure.
const HOST: Option<i32> = Some(5);

/// A guest's output for a run that passes.
const PASS: &str =
    "@ringside boot cpus_found=1 cpus_online=1 x2apic=1 tick_hz=100 tsc_hz=1 apic_timer_hz=1 clock=hpet memory_kib=1 \
per_cpu_kib=1 bring_up_ns=1
[cpu0] hi
@ringside cpu cpu=0 apic_id=0 program=\"hello\" outcome=exited code=0 starts=1 killed=0 syscalls=1 ticks=1 \
tick_millihertz=0 reason=\"\"
@ringside verdict outcome=pass records=1 warnings=0";

/// A result of `stress --json` with one boot.
const RESULT: &str = r#"{"ringside_stress": 1, "outcome": "pass", "boots": [{"seed": "0x1", "replay": "again",
    "outcome": "pass", "seconds": 1.0, "problems": [], "warnings": [], "log": null, "cpus": [{"cpu": 0, "syscalls": 7,
    "counts": [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "calls": 7, "lines": 1, "ticks": 1}]}], "not_booted": []}"#;

/// A temporary directory that contains a result, a trace, and a script that replaces QEMU.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Fixture {
        let fixture = Fixture(tempfile::tempdir().expect("cannot create a directory"));
        fixture.qemu(&format!("cat <<'END'\n{PASS}\nEND\nexit 33"));
        fs::write(fixture.path("result.json"), RESULT).expect("cannot write the result");
        let made =
            fixture.tool(&["trace", "--synthesize", "2000", "t.rtrace"]).status().expect("cannot start");
        assert!(made.success());
        fixture
    }

    fn qemu(&self, script: &str) {
        script::write(&self.path("qemu"), script);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns a command that runs in the directory.
    fn tool(&self, words: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_xtask"), words)
    }

    /// Runs the same command in a shell, which first executes `setup`. `redirections` applies to the command.
    fn shell(&self, setup: &str, redirections: &str, words: &[&str]) -> Output {
        let script = format!("{setup}\nexec \"$@\" {redirections}");
        let shell_args = ["-c", &script, "sh", env!("CARGO_BIN_EXE_xtask")];
        self.command("sh", &[&shell_args, words].concat()).output().expect("cannot start")
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .env("RINGSIDE_QEMU", self.path("qemu"));
        command
    }
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("cannot open a full device")
}

/// Returns the write end of a pipe whose read end is closed.
fn gone() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("cannot create a pipe");
    drop(reader);
    writer.into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The arguments of a run in which the script replaces QEMU.
const RUN: [&str; 3] = ["run", "--as-built", "hello"];

/// Commands that print something to standard output and need neither QEMU nor a build.
const PRINTING: [&[&str]; 15] = [
    &RUN,
    &["run", "--as-built", "--json", "-", "-q", "hello"],
    &["run", "--list"],
    &["run", "--help"],
    &["--help"],
    &["--version"],
    &["test", "--list"],
    &["mutants", "--list"],
    &["mutants", "--hazards"],
    &["mutants", "--markdown"],
    &["stress", "--runs", "3", "--print-jobs"],
    &["merge", "result.json"],
    &["merge", "result.json", "--json", "-"],
    &["trace", "--stats", "t.rtrace"],
    &["trace", "--text", "-", "t.rtrace"],
];

#[test]
fn enospc_on_stdout_is_a_reported_host_failure() {
    let fixture = Fixture::new();
    for words in PRINTING {
        let output = fixture.tool(words).stdout(full()).output().expect("cannot start");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), HOST, "{words:?}: {stderr}");
        let said = "cannot write standard output: No space left on device";
        assert!(stderr.contains(said), "{words:?}: {stderr}");
    }
}

#[test]
fn enospc_on_stderr_is_a_host_failure() {
    let fixture = Fixture::new();
    let complaining: [&[&str]; 4] =
        [&["run", "no-such-program"], &["run", "--no-such-option"], &["frobnicate"], &["trace", "absent"]];
    for words in complaining {
        let output = fixture.tool(words).stderr(full()).output().expect("cannot start");
        assert_eq!(output.status.code(), HOST, "{words:?}");
        let output = fixture.tool(words).stderr(full()).stdout(full()).output().expect("cannot start");
        assert_eq!(output.status.code(), HOST, "{words:?}, both full");
    }
}

#[test]
fn closed_reader_does_not_change_the_status() {
    let fixture = Fixture::new();
    for words in PRINTING {
        let output = fixture.tool(words).stdout(gone()).output().expect("cannot start");
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("cannot write"), "{words:?}: {}", text(&output.stderr));
    }
    let output = fixture.tool(&["run", "no-such-program"]).stderr(gone()).output().expect("cannot start");
    assert_eq!(output.status.code(), Some(2));
    fixture.qemu("echo '[cpu0] hi'; exit 0");
    let output = fixture.tool(&RUN).stdout(gone()).stderr(gone()).output().expect("cannot start");
    assert_eq!(output.status.code(), Some(3), "the status of the run");
}

#[test]
fn closed_stream_is_a_host_failure_if_something_is_printed_there() {
    let fixture = Fixture::new();
    for words in PRINTING {
        for redirections in [">&-", ">&- 2>&-", ">&- 2>&- <&-"] {
            let output = fixture.shell("", redirections, words);
            assert_eq!(output.status.code(), HOST, "{words:?} {redirections}: {}", text(&output.stderr));
        }
        let stderr = fixture.shell("", ">&-", words).stderr;
        assert!(text(&stderr).contains("cannot write standard output: Bad file desc"), "{}", text(&stderr));
        let is_silent = fixture.tool(words).output().expect("cannot start").stderr.is_empty();
        let output = fixture.shell("", "2>&-", words);
        assert_eq!(output.status.code(), if is_silent { Some(0) } else { HOST }, "{words:?} 2>&-");
        for redirections in ["<&-", "1<>/dev/null"] {
            let output = fixture.shell("", redirections, words);
            assert_eq!(output.status.code(), Some(0), "{words:?} {redirections}: {}", text(&output.stderr));
        }
    }
    let status = |redirection| fixture.shell("", redirection, &["run", "no-such-program"]).status.code();
    assert_eq!([">&-", "2>&-"].map(status), [Some(2), HOST]);
    let quiet = fixture.shell("", ">&-", &["run", "--as-built", "-q", "hello"]);
    assert_eq!(quiet.status.code(), Some(0), "{}", text(&quiet.stderr));
}

#[test]
fn enospc_on_an_output_file_is_a_host_failure_and_names_the_file() {
    let fixture = Fixture::new();
    symlink("/dev/full", fixture.path("full")).expect("cannot link");
    fs::create_dir(fixture.path("ports")).expect("cannot create a directory");
    symlink("/dev/full", fixture.path("ports/cpu0.log")).expect("cannot link");
    let writing: [(&[&str], &str); 12] = [
        (&["run", "--as-built", "-q", "--log", "full", "hello"], "full"),
        (&["run", "--as-built", "--json", "full", "hello"], "full"),
        (&["run", "--as-built", "--smp", "1", "--serial-dir", "ports", "hello"], "cpu0.log"),
        (&["merge", "result.json", "--json", "full"], "full"),
        (&["merge", "result.json", "--report", "full"], "full"),
        (&["trace", "t.rtrace", "--pftrace", "full"], "full"),
        (&["trace", "t.rtrace", "--text", "full"], "full"),
        (&["trace", "t.rtrace", "--text", "full", "--per-cpu"], "full"),
        (&["trace", "t.rtrace", "--stats-json", "full"], "full"),
        (&["trace", "t.rtrace", "--svg", "full"], "full"),
        (&["trace", "full", "--synthesize", "9999"], "full"),
        (&["trace", "full", "--synthesize", "9"], "full"),
    ];
    for (words, name) in writing {
        let output = fixture.tool(words).output().expect("cannot start");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), HOST, "{words:?}: {stderr}");
        let named =
            stderr.lines().any(|line| line.contains(name) && line.contains("No space left on device"));
        assert!(named, "{words:?}: {stderr}");
    }
}

#[test]
fn enospc_on_a_serial_port_file_is_a_host_failure_and_names_the_file() {
    let fixture = Fixture::new();
    let ports = "for word; do case $word in file,id=cpu[12],path=*) echo \"[$word] hi\" >\"${word#*path=}\" ;; esac; done";
    fixture.qemu(&format!("{ports}\ncat <<'END'\n{PASS}\nEND\nexit 33"));
    let words = ["run", "--as-built", "--smp", "3", "--serial-dir", "ports", "hello"];
    let run = || fixture.tool(&words).output().expect("cannot start");
    assert_eq!(run().status.code(), Some(0));
    for name in ["cpu1.log", "cpu2.log"] {
        let text = fs::read_to_string(fixture.path("ports").join(name)).expect("cannot read");
        assert!(text.starts_with("[file,id=cpu") && text.ends_with("] hi\n"), "{name}: {text}");
    }
    fs::remove_file(fixture.path("ports/cpu2.log")).expect("cannot remove");
    symlink("/dev/full", fixture.path("ports/cpu2.log")).expect("cannot link");
    let output = run();
    assert_eq!(output.status.code(), HOST, "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("cannot write ports/cpu2.log: No space left"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn log_write_error_is_reported_in_the_json() {
    let fixture = Fixture::new();
    let words = ["run", "--as-built", "-q", "--log", "/dev/full", "--json", "-", "hello"];
    let output = fixture.tool(&words).output().expect("cannot start");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("invalid JSON");
    assert_eq!(json["outcome"], "host");
    assert!(json["errors"][0].as_str().is_some_and(|error| error.contains("/dev/full")), "{json}");
    // A failure of the run itself takes precedence.
    fixture.qemu("echo '[cpu0] hi'; exit 0");
    let output = fixture.tool(&words).output().expect("cannot start");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("cannot write /dev/full"), "{}", text(&output.stderr));
}

#[test]
fn gdb_subcommand_does_not_start_qemu_if_stdout_cannot_be_written() {
    let fixture = Fixture::new();
    fixture.qemu(&format!("echo started >'{}'", fixture.path("started").display()));
    script::write(&fixture.path("gdb"), "exit 0");
    let mut tool = fixture.tool(&["gdb", "--as-built", "hello"]);
    let full = full();
    let path = format!("{}:{}", fixture.0.path().display(), std::env::var("PATH").expect("PATH is not set"));
    let output = tool.env("PATH", path).stdout(full).output().expect("cannot start");
    assert_eq!(output.status.code(), HOST);
    assert!(
        text(&output.stderr).contains("cannot write standard output: No space"),
        "{}",
        text(&output.stderr)
    );
    assert!(!fixture.path("started").exists(), "QEMU was started");
}

#[test]
fn file_size_limit_is_a_reported_host_failure() {
    let fixture = Fixture::new();
    let writing: [&[&str]; 5] = [
        &["run", "--as-built", "--log", "log", "hello"],
        &["run", "--as-built", "--json", "json", "hello"],
        &["merge", "result.json", "--json", "json"],
        &["trace", "t.rtrace", "--text", "text"],
        &["trace", "u.rtrace", "--synthesize", "9999"],
    ];
    for words in writing {
        let output = fixture.shell("ulimit -f 0", "", words);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), HOST, "{words:?}: {stderr}");
        assert!(stderr.contains("File too large"), "{words:?}: {stderr}");
    }
}

#[test]
fn memory_limit_is_a_reported_host_failure() {
    let fixture = Fixture::new();
    // A trace whose length field gives a 256 MiB header, in a sparse file.
    let trace = fs::read(fixture.path("t.rtrace")).expect("cannot read");
    let long = [&trace[..20], &(1_u32 << 28).to_le_bytes()].concat();
    fs::write(fixture.path("long.rtrace"), long).expect("cannot write");
    let file = File::options().write(true).open(fixture.path("long.rtrace")).expect("cannot open");
    file.set_len(2 << 30).expect("cannot create a sparse file");
    let output = fixture.shell("ulimit -v 200000", "", &["trace", "long.rtrace", "--stats"]);
    assert_eq!(output.status.code(), HOST, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("not enough memory"), "{}", text(&output.stderr));
}

#[test]
fn tool_runs_with_a_small_stack_limit() {
    let fixture = Fixture::new();
    for kib in [64, 128, 256] {
        let output = fixture.shell(&format!("ulimit -s {kib}"), "", &["run", "--as-built", "-q", "hello"]);
        assert_eq!(output.status.code(), Some(0), "{kib} KiB: {}", text(&output.stderr));
    }
}

#[test]
fn writing_a_result_does_not_replace_a_symlink_or_fifo() {
    let fixture = Fixture::new();
    let writing: [&[&str]; 7] = [
        &["run", "--as-built", "-q", "hello", "--json"],
        &["merge", "result.json", "--json"],
        &["merge", "result.json", "--report"],
        &["trace", "t.rtrace", "--pftrace"],
        &["trace", "t.rtrace", "--text"],
        &["trace", "t.rtrace", "--stats-json"],
        &["trace", "t.rtrace", "--svg"],
    ];
    fs::write(fixture.path("real"), "former").expect("cannot write");
    symlink("real", fixture.path("link")).expect("cannot link");
    let made = Command::new("mkfifo").arg(fixture.path("fifo")).status().expect("cannot start mkfifo");
    assert!(made.success());
    for words in writing {
        // Words after the program's name are its arguments.
        let words = |name| match words {
            ["run", options @ .., "hello", option] => [&["run"], options, &[*option, name, "hello"]].concat(),
            words => [words, &[name]].concat(),
        };
        let output = fixture.tool(&words("link")).output().expect("cannot start");
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr), words = words("link"));
        let written = fs::read(fixture.path("real")).expect("cannot read");
        assert!(written.len() > 100, "{:?}: {}", words("link"), text(&written));
        assert!(is_link(&fixture.path("link")), "{:?}", words("link"));
        let mut tool = fixture.tool(&words("fifo")).stdout(Stdio::null()).spawn().expect("cannot start");
        let read = fs::read(fixture.path("fifo")).expect("cannot read");
        assert!(tool.wait().expect("cannot wait").success(), "{:?}", words("fifo"));
        assert!(read.len() > 100, "{:?}: {}", words("fifo"), text(&read));
        let kind = fs::symlink_metadata(fixture.path("fifo")).expect("it must exist").file_type();
        assert!(kind.is_fifo(), "{:?}", words("fifo"));
        fs::write(fixture.path("real"), "former").expect("cannot write");
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink())
}

#[test]
fn trace_is_not_replaced_by_what_it_is_converted_to() {
    let fixture = Fixture::new();
    symlink("t.rtrace", fixture.path("link")).expect("cannot link");
    let before = fs::read(fixture.path("t.rtrace")).expect("cannot read");
    for option in ["--text", "--pftrace", "--stats-json", "--svg"] {
        for path in ["t.rtrace", "link", "./t.rtrace"] {
            let output = fixture.tool(&["trace", "t.rtrace", option, path]).output().expect("cannot start");
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{option} {path}: {stderr}");
            assert!(stderr.contains("is the input file: name another file"), "{option} {path}: {stderr}");
        }
    }
    assert_eq!(fs::read(fixture.path("t.rtrace")).expect("cannot read"), before);
}

#[test]
fn concurrent_runs_that_write_the_same_result_do_not_collide() {
    let fixture = Fixture::new();
    let words = ["merge", "result.json", "--json", "same", "--report", "page"];
    for _ in 0..5 {
        let start = || {
            fixture.tool(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("cannot start")
        };
        let tools = [start(), start(), start()];
        for tool in tools {
            let output = tool.wait_with_output().expect("cannot wait");
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    }
    let left = fs::read_dir(fixture.0.path())
        .expect("cannot list")
        .map(|entry| entry.expect("cannot read the directory").file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("part")).collect();
    assert!(left.is_empty(), "{left:?}");
}
