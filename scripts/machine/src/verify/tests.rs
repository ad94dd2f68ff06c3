//! Tests of which runs pass and which do not.

use super::*;

const BOOT2: &str = "@ringside boot cpus_found=2 cpus_online=2 x2apic=1 tick_hz=100 tsc_hz=1 apic_timer_hz=1 \
                     clock=hpet memory_kib=1 per_cpu_kib=1 bring_up_ns=1";
const PASS2: &str = "@ringside verdict outcome=pass records=2 warnings=0";
const FAILED2: &str = "@ringside verdict outcome=failed records=2 warnings=0";
const PANIC0: &str = "@ringside verdict outcome=panic records=0 warnings=0";

fn cpu(number: u32, outcome: &str, code: i32) -> String {
    format!(
        "@ringside cpu cpu={number} apic_id={number} program=\"hello\" outcome={outcome} code={code} starts=1 killed=0 syscalls=1 \
         ticks=1 tick_millihertz=0 reason=\"\""
    )
}

fn judged(status: i32, lines: &[&str]) -> Judgement {
    let mut facts = Facts::default();
    for line in lines {
        facts.take(line.as_bytes());
    }
    judge(Ending::Status(status), &facts)
}

fn good(number: u32) -> String {
    cpu(number, "exited", 0)
}

#[test]
fn complete_run_with_status_33_passes() {
    // The records of the CPUs may arrive in any order.
    let judgement = judged(33, &["[cpu0] hi", BOOT2, &good(1), &good(0), PASS2]);
    assert_eq!(judgement, Judgement { outcome: Outcome::Pass, errors: vec![], warnings: vec![] });
}

#[test]
fn run_with_fewer_cycles_than_requested_does_not_pass() {
    const ALL: &str = "@ringside cycles asked=3 done=3";
    const FEWER: &str = "@ringside cycles asked=3 done=2";
    let judged = |status, done, verdict| judged(status, &[BOOT2, &good(0), &good(1), done, verdict]);
    assert_eq!(judged(33, ALL, PASS2).outcome, Outcome::Pass);
    assert_eq!(judged(33, FEWER, PASS2).outcome, Outcome::Panic, "the verdict contradicts the record");
    let fewer = judged(35, FEWER, FAILED2);
    assert_eq!(fewer.outcome, Outcome::Failed);
    assert_eq!(
        fewer.errors,
        ["only 2 of 3 cycles were done (in a cycle, a CPU leaves the run and comes back)"]
    );
}

#[test]
fn dropped_output_does_not_pass_and_hides_no_other_failure() {
    const DROPPED: &str = "@ringside dropped cpu=1 bytes=40";
    const OF_KERNEL: &str = "@ringside dropped cpu=none bytes=7";
    let judgement = judged(33, &[BOOT2, &good(0), &good(1), DROPPED, OF_KERNEL, PASS2]);
    assert_eq!(judgement.outcome, Outcome::Host);
    let expected = [
        "40 bytes of CPU 1's output were dropped, because the UART was not ready in time",
        "7 bytes of the kernel's records were dropped, because the UART was not ready in time",
    ];
    assert_eq!(judgement.errors, expected);
    let failed = cpu(1, "exited", 7);
    let judgement = judged(35, &[BOOT2, &good(0), &failed, DROPPED, FAILED2]);
    assert_eq!((judgement.outcome, judgement.errors.len()), (Outcome::Failed, 2));
    assert_eq!(judged(33, &[BOOT2, &good(0), DROPPED, PASS2]).outcome, Outcome::Panic);
}

#[test]
fn run_without_records_does_not_pass_and_names_the_console() {
    let table = [(33, Outcome::Host), (35, Outcome::Failed), (37, Outcome::Panic), (39, Outcome::Usage)];
    for (status, outcome) in table {
        for lines in [&[][..], &["[cpu0] all is well"]] {
            let judgement = judged(status, lines);
            assert_eq!((judgement.outcome, judgement.errors.len()), (outcome, 1), "status {status}");
            assert!(judgement.errors[0].contains("the console, COM1, is missing"), "{judgement:?}");
        }
    }
    assert_eq!(judged(33, &[BOOT2]).outcome, Outcome::Panic);
    assert_eq!(judged(33, &["@ringside verdict outcome="]).outcome, Outcome::Panic);
}

#[test]
fn each_missing_record_is_detected() {
    let lines = [BOOT2, &good(0), &good(1), PASS2];
    for without in 0..lines.len() {
        let mut lines = lines.to_vec();
        lines.remove(without);
        let judgement = judged(33, &lines);
        assert_eq!(judgement.outcome, Outcome::Panic, "without record {without}");
        assert!(!judgement.errors.is_empty());
    }
}

#[test]
fn each_duplicate_record_is_detected() {
    let lines = [BOOT2, &good(0), &good(1), PASS2];
    for twice in 0..lines.len() {
        let mut lines = lines.to_vec();
        lines.insert(twice, lines[twice]);
        assert_eq!(judged(33, &lines).outcome, Outcome::Panic, "record {twice} twice");
    }
}

#[test]
fn cpu_indices_must_be_dense() {
    assert_eq!(judged(33, &[BOOT2, &good(0), &good(2), PASS2]).outcome, Outcome::Panic);
}

#[test]
fn malformed_record_is_detected_among_complete_records() {
    let judgement = judged(33, &[BOOT2, "@ringside cpu cp", &good(0), &good(1), PASS2]);
    assert_eq!(judgement.outcome, Outcome::Panic);
}

#[test]
fn record_after_the_verdict_is_detected() {
    let judgement = judged(33, &[BOOT2, &good(0), PASS2, &good(1)]);
    assert_eq!(judgement.outcome, Outcome::Panic);
}

#[test]
fn every_other_status_contradicts_a_pass_record() {
    for status in [0, 1, 2, 35, 37, 39, 255] {
        let judgement = judged(status, &[BOOT2, &good(0), &good(1), PASS2]);
        assert_eq!(judgement.outcome, Outcome::Panic, "status {status}");
    }
}

#[test]
fn reset_is_a_panic_and_status_1_without_output_is_a_host_error() {
    assert_eq!(judged(0, &[]).outcome, Outcome::Panic);
    assert_eq!(judged(1, &[]).outcome, Outcome::Host);
    assert_eq!(judged(1, &["[cpu0] hi"]).outcome, Outcome::Panic);
}

#[test]
fn killed_program_or_nonzero_code_fails_the_run() {
    for bad in [cpu(1, "killed", 0), cpu(1, "exited", 7), cpu(1, "exited", -1)] {
        let judgement = judged(35, &[BOOT2, &good(0), &bad, FAILED2]);
        assert_eq!(judgement.outcome, Outcome::Failed);
        assert_eq!(judgement.errors.len(), 1);
        assert_eq!(
            judged(33, &[BOOT2, &good(0), &bad, PASS2]).outcome,
            Outcome::Panic,
            "the verdict is a pass"
        );
    }
    assert_eq!(
        judged(35, &[BOOT2, &good(0), &good(1), FAILED2]).outcome,
        Outcome::Panic,
        "no program failed"
    );
}

#[test]
fn missing_cpu_is_a_warning() {
    let boot = BOOT2.replace("online=2", "online=1");
    let verdict = PASS2.replace("warnings=0", "warnings=1");
    let judgement = judged(33, &[&boot, &good(0), &cpu(1, "missing", 0), &verdict]);
    assert_eq!((judgement.outcome, judgement.warnings.len()), (Outcome::Pass, 1));
    let judgement = judged(33, &[BOOT2, &good(0), &cpu(1, "missing", 0), &verdict]);
    assert_eq!(judgement.outcome, Outcome::Panic, "the boot record counts it as online");
    assert_eq!(
        judged(33, &[&boot, &good(0), &good(1), PASS2]).outcome,
        Outcome::Panic,
        "not reported missing"
    );
}

#[test]
fn panic_needs_no_other_record() {
    let judgement = judged(37, &["@ringside panic cpu=2 message=\"requested\"", PANIC0]);
    assert_eq!(judgement.outcome, Outcome::Panic);
    assert_eq!(judgement.errors, ["CPU 2 panicked: requested"]);
}

#[test]
fn panic_record_contradicts_a_pass() {
    let panic = "@ringside panic cpu=1 message=\"\"";
    assert_eq!(judged(33, &[BOOT2, &good(0), &good(1), panic, PASS2]).outcome, Outcome::Panic);
}

#[test]
fn refused_command_line_is_a_usage_error() {
    let verdict = "@ringside verdict outcome=bad-command-line records=0 warnings=0";
    let judgement = judged(39, &["[cpu0] ringside: command line: unknown key 'x'", verdict]);
    assert_eq!(judgement.outcome, Outcome::Usage);
    assert_eq!(judgement.errors, ["the kernel rejected its command line: unknown key 'x'"]);
    assert_eq!(judged(39, &[verdict]).outcome, Outcome::Usage);
}

#[test]
fn endings_without_a_status_are_timeout_or_host_errors() {
    let facts = Facts::default();
    assert_eq!(judge(Ending::TimedOut, &facts).outcome, Outcome::Timeout);
    assert_eq!(judge(Ending::NotStarted, &facts).outcome, Outcome::Host);
    assert_eq!(judge(Ending::Signal(6), &facts).outcome, Outcome::Host);
}

#[test]
fn truncated_trace_is_detected() {
    // A valid trace line that is not the last line of its trace.
    let line = "@ringside trace line=3 part=records cpu=1 at=24 data= crc=020e5803";
    let (cpu0, cpu1) = (good(0), good(1));
    let judgement = judged(33, &[BOOT2, line, &cpu0, &cpu1, PASS2]);
    assert_eq!(judgement.outcome, Outcome::Panic);
    assert!(judgement.errors.iter().any(|error| error.contains("truncated")), "{:?}", judgement.errors);
    let judgement = judged(37, &["@ringside panic cpu=2 message=\"requested\"", line, PANIC0]);
    assert!(
        judgement.warnings.iter().any(|warning| warning.contains("truncated")),
        "{:?}",
        judgement.warnings
    );
}
