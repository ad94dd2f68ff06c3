//! Tests with extreme numbers that no run, campaign or trace produces: in records of a guest, in results, in traces and
//! in options. The tool rejects them or shows the largest possible number, but never panics (status 101).
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests write their own files, and a failed write fails the test"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

mod script;

const MAX: u64 = u64::MAX;

/// A temporary directory in which the commands run.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Fixture {
        Fixture(tempfile::tempdir().expect("cannot create a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces QEMU with a script that prints these lines and passes.
    fn qemu(&self, lines: &str) {
        script::write(&self.path("qemu"), &format!("cat <<'END'\n{lines}\nEND\nexit 33"));
    }

    fn tool(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(words).current_dir(self.0.path()).env("RINGSIDE_QEMU", self.path("qemu"));
        command.stdin(Stdio::null()).output().expect("cannot start the host tool")
    }
}

#[track_caller]
fn ends_with(output: &Output, status: i32) {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{stdout}\n{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("internal error"), "{stderr}");
}

/// The records of a guest in which every number is as large as it can be.
fn records() -> String {
    let small = u32::MAX;
    let counts = vec![MAX.to_string(); 17].join(",");
    format!(
        "@ringside boot cpus_found={small} cpus_online={small} x2apic=1 tick_hz={small} tsc_hz={MAX} apic_timer_hz={MAX} \
         clock=hpet memory_kib={MAX} per_cpu_kib={MAX} bring_up_ns={MAX}\n\
         @ringside cpu cpu=0 apic_id=0 program=\"hello\" outcome=exited code=0 starts=0 killed=99 syscalls={MAX} \
         ticks={MAX} tick_millihertz={MAX} reason=\"\"\n\
         @ringside cpu cpu={small} apic_id={small} program=\"hello\" outcome=exited code=-2147483648 starts={small} \
         killed={small} syscalls={MAX} ticks={MAX} tick_millihertz={MAX} reason=\"\"\n\
         @ringside calls cpu=0 counts={counts}\n\
         [cpu0] hostile: round {MAX}\n\
         [cpu0] hostile: done cpu=0 seed=0x1 survived_rows={MAX} deadly_rows={MAX} start={MAX} memory={MAX} random={MAX}\n\
         [cpu{small}] hostile: done cpu={small} seed=0x1 survived_rows=0 deadly_rows=0 start={MAX} memory={MAX}\n\
         @ringside verdict outcome=pass records=2 warnings={small}"
    )
}

#[test]
fn extreme_numbers_in_records_of_a_guest_cause_no_panic() {
    let fixture = Fixture::new();
    fixture.qemu(&records());
    let output = fixture.tool(&["run", "--as-built", "--json", "json", "hello"]);
    ends_with(&output, 3);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("the record of CPU 0 has 99 killed copies in 0 starts"), "{stderr}");
    let json = fs::read_to_string(fixture.path("json")).expect("cannot read");
    assert!(json.contains(&MAX.to_string()), "{json}");
    let logs = ["--log-dir", "logs", "--no-report"];
    let stress = [&["stress", "--as-built", "--smp", "1", "--seed", "1"], &logs[..]].concat();
    ends_with(&fixture.tool(&stress), 3);
}

#[test]
fn extreme_numbers_in_results_of_campaigns_cause_no_panic() {
    let fixture = Fixture::new();
    let counts = vec![MAX.to_string(); 17].join(",");
    let cpu = |cpu: u32| {
        format!(
            r#"{{"cpu": {cpu}, "syscalls": {MAX}, "counts": [{counts}], "calls": {MAX}, "lines": {MAX}, "ticks": {MAX}}}"#
        )
    };
    let boot = |seed: &str| {
        format!(
            r#"{{"seed": "{seed}", "replay": "r {seed}", "outcome": "failed", "seconds": 1e308, "warnings": [], "log": null,
            "problems": [{{"cpu": {}, "what": "x"}}], "cpus": [{}, {}]}}"#,
            u32::MAX,
            cpu(u32::MAX - 1),
            cpu(u32::MAX)
        )
    };
    let boots = [boot("0x1"), boot("0xffffffffffffffff")].join(",");
    let text = format!(
        r#"{{"ringside_stress": 1, "outcome": "failed", "boots": [{boots}], "not_booted": ["0xfffffffffffffffe"]}}"#
    );
    fs::write(fixture.path("huge.json"), &text).expect("cannot write");
    let output = fixture.tool(&["merge", "huge.json", "--json", "out.json", "--report", "page.html"]);
    ends_with(&output, 1);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&MAX.to_string()));
    for (text, why) in [
        (
            r#"{"ringside_stress": 1, "outcome": "pass", "boots": [], "not_booted": ["0x1ffffffffffffffff"]}"#,
            "seed",
        ),
        (r#"{"ringside_stress": 18446744073709551616}"#, "not a result"),
        (r#"{"ringside_stress": -1}"#, "not a result"),
    ] {
        fs::write(fixture.path("bad.json"), text).expect("cannot write");
        let output = fixture.tool(&["merge", "bad.json"]);
        ends_with(&output, 2);
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{text}");
    }
    // Results that no campaign writes.
    for (of, with, why) in [
        ("\"seconds\": 1e308", "\"seconds\": -1", "a duration of -1 s"),
        ("\"counts\": [", "\"counts\": [1,", "18 counts of system calls instead of 17"),
        ("\"cpu\": 4294967295, \"sys", "\"cpu\": 4294967294, \"sys", "CPU 4294967294 occurs twice"),
        ("\"outcome\": \"failed\", \"seconds", "\"outcome\": \"pass\", \"seconds", "a pass with 1 problem"),
        ("\"outcome\": \"failed\", \"boots", "\"outcome\": \"pass\", \"boots", "its outcome is \"pass\""),
    ] {
        assert!(text.contains(of), "{of}");
        fs::write(fixture.path("bad.json"), text.replace(of, with)).expect("cannot write");
        let output = fixture.tool(&["merge", "bad.json"]);
        ends_with(&output, 2);
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{of}: {output:?}");
    }
}

#[test]
fn endless_inputs_do_not_hang_the_tool() {
    let fixture = Fixture::new();
    ends_with(&fixture.tool(&["trace", "--synthesize", "40", "t.rtrace"]), 0);
    let reading: [&[&str]; 3] = [
        &["merge", "/dev/zero"],
        &["trace", "/dev/zero", "--stats"],
        &["trace", "--ram", "/dev/zero", "--stats"],
    ];
    for words in reading {
        let output = fixture.tool(words);
        ends_with(&output, 5);
        assert!(String::from_utf8_lossy(&output.stderr).contains("device, not a file"), "{output:?}");
    }
    ends_with(&fixture.tool(&["trace", "t.rtrace", "--stats", "--symbols", "/dev/zero"]), 0);
    header(&fixture, "tsc_hz", "1");
    let mut bytes = fs::read(fixture.path("t.rtrace")).expect("cannot read");
    bytes[20..24].fill(0xff);
    fs::write(fixture.path("t.rtrace"), bytes).expect("cannot write");
    ends_with(&fixture.tool(&["trace", "t.rtrace", "--stats"]), 5);
}

/// Writes a synthetic trace with another number in the header.
fn header(fixture: &Fixture, name: &str, value: &str) {
    ends_with(&fixture.tool(&["trace", "--synthesize", "40", "t.rtrace"]), 0);
    let bytes = fs::read(fixture.path("t.rtrace")).expect("cannot read");
    let header = 24..bytes.len() - RECORDS;
    let text = String::from_utf8(bytes[header.clone()].to_vec()).expect("invalid JSON");
    let at = text.find(&format!("\"{name}\":")).expect("there must be a field") + name.len() + 3;
    let end = at + text[at..].find([',', '}']).expect("no end");
    let text = format!("{}{value}{}", &text[..at], &text[end..]);
    let length = u32::try_from(text.len()).expect("there must be a length").to_le_bytes();
    let new = [&bytes[..20], &length, text.as_bytes(), &bytes[header.end..]].concat();
    fs::write(fixture.path("t.rtrace"), new).expect("cannot write");
}

/// The bytes of the records, at the end of the file.
const RECORDS: usize = 40 * 32;

/// Writes a synthetic trace whose clock counts seconds, with other words in its records.
fn trace(fixture: &Fixture, change: impl Fn(usize, &mut [u64])) {
    header(fixture, "tsc_hz", "1");
    let mut bytes = fs::read(fixture.path("t.rtrace")).expect("cannot read");
    let start = bytes.len() - RECORDS;
    for (number, record) in bytes[start..].chunks_mut(32).enumerate() {
        let (words, _) = record.as_chunks_mut::<8>();
        let mut values: Vec<_> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        change(number, &mut values);
        words.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_le_bytes());
    }
    fs::write(fixture.path("t.rtrace"), bytes).expect("cannot write");
}

/// Converts the trace to all output formats.
#[track_caller]
fn converts(fixture: &Fixture, status: i32) {
    let all = ["trace", "t.rtrace", "--out-dir", "out", "--stats", "--svg", "t.svg", "--text", "t.txt"];
    ends_with(&fixture.tool(&all), status);
}

#[test]
fn extreme_numbers_in_records_of_a_trace_cause_no_panic() {
    let fixture = Fixture::new();
    // The times.
    trace(&fixture, |_, record| record[0] = MAX);
    converts(&fixture, 0);
    trace(&fixture, |number, record| record[0] = if number % 2 == 0 { 0 } else { MAX });
    converts(&fixture, 0);
    trace(&fixture, |number, record| record[0] = MAX - 10 + number as u64 % 10);
    converts(&fixture, 0);
    // The numbers of an event, and the sequence and kind.
    trace(&fixture, |_, record| record[1..3].fill(MAX));
    converts(&fixture, 0);
    trace(&fixture, |_, record| record[3] = MAX);
    converts(&fixture, 0);
    trace(&fixture, |_, record| record.fill(MAX));
    converts(&fixture, 0);
}

#[test]
fn extreme_numbers_in_the_header_of_a_trace_cause_no_panic() {
    let fixture = Fixture::new();
    for name in ["tsc_hz", "boot_tsc", "dropped", "overwritten", "torn", "lost", "records"] {
        for value in ["18446744073709551615", "1", "0"] {
            header(&fixture, name, value);
            let all =
                ["trace", "t.rtrace", "--out-dir", "out", "--stats", "--svg", "t.svg", "--text", "t.txt"];
            let output = fixture.tool(&all);
            assert!(matches!(output.status.code(), Some(0 | 5)), "{name}={value}: {output:?}");
        }
    }
    for value in ["9223372036854775807", "-9223372036854775808"] {
        header(&fixture, "tsc_offset", value);
        converts(&fixture, 0);
    }
    for name in ["cpu", "apic_id"] {
        header(&fixture, name, "4294967295");
        converts(&fixture, 0);
    }
}

#[test]
fn extreme_numbers_in_options_cause_no_panic() {
    let fixture = Fixture::new();
    fixture.qemu("[cpu0] hi");
    let max = MAX.to_string();
    // The script passes without records.
    ends_with(&fixture.tool(&["run", "--as-built", "--timeout", &max, "hello"]), 5);
    let stress = ["stress", "--as-built", "--smp", "1", "--log-dir", "logs", "--no-report", "--seed", "1"];
    for option in [["--timeout", &max], ["--calls", &max]] {
        ends_with(&fixture.tool(&[&stress[..], &option].concat()), 5);
    }
    let range = format!("0..={max}");
    ends_with(&fixture.tool(&["stress", "--seeds", &range, "--print-jobs"]), 2);
    let range = format!("{max}..={max}");
    ends_with(&fixture.tool(&["stress", "--seeds", &range, "--print-jobs"]), 0);
    ends_with(&fixture.tool(&["run", "--as-built", "--memory", &max, "--trace", "all", "hello"]), 2);
}
