//! Tests the watch on correct and incorrect consoles.

use super::*;

const SUMMARY: &[u8] =
    b"[cpu0] hostile: done cpu=0 seed=0x5 survived_rows=9 deadly_rows=3 start=40 numbers=800 random=39";

fn watched(lines: &[(&[u8], u64)]) -> Watch {
    let mut watch = Watch::default();
    for (line, seconds) in lines {
        watch.take(line, Duration::from_secs(*seconds));
    }
    watch
}

fn cpu(starts: u32) -> machine::facts::Cpu {
    let mut facts = machine::facts::Facts::default();
    let line = format!(
        "@ringside cpu cpu=0 apic_id=0 program=\"hostile\" outcome=exited code=0 starts={starts} killed=3 \
         syscalls=5 ticks=7 tick_millihertz=0 reason=\"\""
    );
    facts.take(line.as_bytes());
    facts.cpus.remove(0)
}

#[test]
fn correct_run_has_no_problem() {
    let mut watch = watched(&[
        (b"[cpu0] ringside: 735 mappings", 0),
        (b"[cpu0] hostile: round 0", 0),
        (b"[cpu0] ~~~===", 1),
        (b"[cpu0] ", 1),
        (b"[cpu0] hostile: round 32", 2),
        (SUMMARY, 3),
    ]);
    watch.finish(Seed(5), 40, 20, &[cpu(40)]);
    assert_eq!(watch.problems, []);
    assert_eq!(watch.cpus[&0].summary.as_ref().map(|it| (it.survived_rows, it.deadly_rows)), Some((9, 3)));
}

#[test]
fn unexpected_outcome_is_reported() {
    let watch =
        watched(&[(b"[cpu3] hostile: UNEXPECTED cpu=3 seed=0x5 round=1 probe=x; expected 1; got 2", 0)]);
    let text = "cpu=3 seed=0x5 round=1 probe=x; expected 1; got 2".to_owned();
    assert_eq!(watch.problems, [Problem::Unexpected { cpu: 3, text }]);
}

#[test]
fn unknown_line_is_a_problem() {
    for line in [
        &b"[cpu0] ~~x"[..],
        b"~~~",
        b"[cpu0] hostile: rounds 0",
        b"[cpux] ~",
        b"[cpu0]~",
        b"[cpu1] hostile: done cpu=0 x=1",
    ] {
        assert!(matches!(watched(&[(line, 0)]).problems[..], [Problem::UnknownLine { .. }]), "{line:?}");
    }
}

#[test]
fn single_step_in_ring_0_is_a_problem() {
    let watch = watched(&[(b"[cpu1] ringside: warning: 3 #DB in ring 0, the latest at RIP 0x1", 0)]);
    assert!(matches!(watch.problems[..], [Problem::Ring0Step { cpu: 1, .. }]));
}

#[test]
fn rounds_are_in_order_and_summary_comes_once() {
    let problems = watched(&[(b"[cpu1] hostile: round 0", 0), (b"[cpu1] hostile: round 64", 0)]).problems;
    assert_eq!(problems, [Problem::Round { cpu: 1, expected: 32, got: 64 }]);
    assert!(matches!(watched(&[(SUMMARY, 0), (SUMMARY, 0)]).problems[..], [Problem::UnknownLine { .. }]));
}

#[test]
fn silent_cpu_is_reported_once_unless_finished() {
    let problems = watched(&[
        (b"[cpu0] hostile: round 0", 0),
        (b"[cpu1] hostile: round 0", 0),
        (b"[cpu1] hostile: round 32", 50),
        (b"[cpu1] hostile: round 64", 61),
        (b"[cpu1] hostile: round 96", 70),
    ])
    .problems;
    assert_eq!(problems, [Problem::Silent { cpu: 0, seconds: 61 }]);
    assert_eq!(watched(&[(SUMMARY, 0), (b"[cpu1] hostile: round 0", 99)]).problems, []);
}

#[test]
fn missing_summary_and_wrong_counts_are_reported() {
    let mut watch = watched(&[]);
    watch.finish(Seed(5), 40, 20, &[cpu(40)]);
    assert_eq!(watch.problems, [Problem::NoSummary { cpu: 0 }]);
    let mut watch = watched(&[(SUMMARY, 0)]);
    watch.finish(Seed(6), 41, 20, &[cpu(40)]);
    assert_eq!(
        watch.problems,
        [
            Problem::Count { cpu: 0, what: "probes", expected: 901, got: 879 },
            Problem::Count { cpu: 0, what: "starts", expected: 41, got: 40 },
            Problem::WrongSeed { cpu: 0, got: Seed(5) },
        ]
    );
}
