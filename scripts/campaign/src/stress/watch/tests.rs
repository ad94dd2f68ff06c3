//! Tests the watch on a correct console, and on consoles with one defect each.

use machine::facts::Facts;
use machine::verify::{Ending, judge};

use super::Watch;
use crate::stress::lines::line;
use crate::stress::problem::Problem;
use crate::stress::seeds::Seed;

const SEED: Seed = Seed(42);

/// Returns the correct console of a boot of two CPUs with three numbered lines each.
fn correct() -> Vec<String> {
    let mut lines = vec!["[cpu0] ringside: 735 mappings; none is both writable and executable".to_owned()];
    for number in 0..3 {
        lines.extend((0..2).map(|cpu| format!("[cpu{cpu}] {}", line(SEED, cpu, number))));
    }
    for cpu in 0..2 {
        lines.push(format!(
            "[cpu{cpu}] stress: seed=0x2a calls=10 lines=3 counts=5,4,0,1,0,0,0,0,0,0,0,0,0,0,0,0,2"
        ));
    }
    lines.push(
        "@ringside boot cpus_found=2 cpus_online=2 x2apic=0 tick_hz=100 tsc_hz=1 apic_timer_hz=1 clock=hpet memory_kib=1 \
         per_cpu_kib=1 bring_up_ns=1"
            .to_owned(),
    );
    for cpu in 0..2 {
        lines.push(format!("@ringside calls cpu={cpu} counts=5,4,0,1,0,0,0,0,0,0,0,0,0,0,0,0,2"));
        lines.push(format!(
            "@ringside cpu cpu={cpu} apic_id={cpu} program=\"stress\" outcome=exited code=0 starts=1 killed=0 syscalls=12 ticks=0 \
             tick_millihertz=0 reason=\"\""
        ));
    }
    lines.push("@ringside verdict outcome=pass records=2 warnings=0".to_owned());
    lines
}

fn problems(lines: &[String]) -> Vec<Problem> {
    let (mut facts, mut watch) = (Facts::default(), Watch::new(SEED));
    for line in lines {
        let seen = facts.take(line.as_bytes());
        watch.take(line.as_bytes(), &seen);
    }
    let status = if lines.iter().any(|line| line.contains("code=3")) { 35 } else { 33 };
    let judgement = judge(Ending::Status(status), &facts);
    watch.finish(judgement.outcome, &facts, Some(10));
    watch.problems
}

/// Returns the problems found after each line of the correct console is replaced by the lines that `change` returns.
fn changed(change: impl Fn(usize, &str) -> Vec<String>) -> Vec<Problem> {
    let lines: Vec<_> = correct().iter().enumerate().flat_map(|(n, line)| change(n, line)).collect();
    problems(&lines)
}

/// Index of line 1 of CPU 1 in the correct console.
const INDEX: usize = 4;

#[test]
fn correct_console_has_no_problem() {
    assert!(correct()[INDEX].starts_with("[cpu1] w 1 1 "));
    assert_eq!(problems(&correct()), []);
}

#[test]
fn wrong_byte_is_one_problem() {
    let found = changed(|n, line| {
        let last = line.len() - 1;
        vec![if n == INDEX { format!("{}_", &line[..last]) } else { line.to_owned() }]
    });
    assert!(matches!(found.as_slice(), [Problem::Line { cpu: 1, number: 1, .. }]), "{found:?}");
}

#[test]
fn lost_line_is_reported_and_counted() {
    let found = changed(|n, line| if n == INDEX { vec![] } else { vec![line.to_owned()] });
    let lost = Problem::LinesLost { cpu: 1, written: 3, received: 2 };
    assert!(matches!(found.as_slice(), [Problem::Line { cpu: 1, number: 1, .. }, last] if *last == lost));
}

#[test]
fn repeated_line_is_reported_and_counted() {
    let found = changed(|n, line| vec![line.to_owned(); 1 + usize::from(n == INDEX)]);
    let many = Problem::LinesLost { cpu: 1, written: 3, received: 4 };
    assert!(matches!(found.as_slice(), [Problem::Line { cpu: 1, number: 2, .. }, last] if *last == many));
}

#[test]
fn line_of_another_cpu_is_wrong() {
    let found =
        changed(|n, line| vec![if n == INDEX { line.replace("[cpu1]", "[cpu0]") } else { line.into() }]);
    assert!(matches!(found.first(), Some(Problem::Line { cpu: 0, number: 2, .. })), "{found:?}");
    assert!(found.iter().any(|p| matches!(p, Problem::Line { cpu: 1, number: 1, .. })), "{found:?}");
}

#[test]
fn split_line_is_wrong() {
    let found = changed(|n, line| match n {
        INDEX => vec![line[..line.len() - 1].to_owned(), format!("[cpu1] {}", &line[line.len() - 1..])],
        _ => vec![line.to_owned()],
    });
    assert!(matches!(found.first(), Some(Problem::Line { cpu: 1, number: 1, .. })), "{found:?}");
    assert!(
        found.iter().any(|problem| matches!(problem, Problem::UnknownLine { cpu: Some(1), .. })),
        "{found:?}"
    );
}

#[test]
fn line_may_be_cut_by_a_violation() {
    let found = changed(|n, line| match line {
        _ if n == INDEX => vec![
            line[..line.len() - 1].to_owned(),
            "[cpu1] stress: VIOLATION cpu=1 call=7 number=0x0: expected rbx 0x1 got 0x2".to_owned(),
        ],
        _ if line.starts_with("[cpu1] w 1 2 ") => vec![],
        _ if line.starts_with("[cpu1] stress: ") => vec![line.replace("calls=10 lines=3", "calls=9 lines=1")],
        _ => vec![
            line.replace(
                "cpu=1 apic_id=1 program=\"stress\" outcome=exited code=0",
                "cpu=1 apic_id=1 program=\"stress\" outcome=exited code=3",
            )
            .replace("outcome=pass", "outcome=failed"),
        ],
    });
    assert!(matches!(found.as_slice(), [Problem::Violation { cpu: 1, .. }]), "{found:?}");
}

#[test]
fn many_wrong_lines_are_listed_in_part() {
    let mut lines = correct();
    lines.splice(INDEX..INDEX, (0..10).map(|_| "[cpu1] w nonsense".to_owned()));
    let found = problems(&lines);
    let listed = found.iter().filter(|problem| matches!(problem, Problem::Line { .. })).count();
    assert_eq!(listed, 3);
    assert!(found.contains(&Problem::MoreLines { cpu: 1, count: 8 }), "{found:?}");
}

#[test]
fn wrong_seed_second_last_line_and_unknown_line_are_problems() {
    let found = changed(|_, line| {
        let other = line.replace("seed=0x2a", "seed=0x2b");
        if line.starts_with("[cpu0] stress: ") {
            vec![other.clone(), other, "who?".into()]
        } else {
            vec![line.into()]
        }
    });
    assert_eq!(
        found.iter().filter(|problem| matches!(problem, Problem::WrongSeed { cpu: 0, .. })).count(),
        2
    );
    assert!(found.contains(&Problem::TwoLastLines { cpu: 0 }));
    assert!(found.contains(&Problem::UnknownLine { cpu: None, line: b"who?".to_vec() }));
}

#[test]
fn lines_torn_by_a_panic_are_not_reported() {
    let (mut facts, mut watch) = (Facts::default(), Watch::new(SEED));
    let torn = &correct()[INDEX];
    for line in [
        &torn[..torn.len() - 2],
        "[cp",
        "@ringside panic cpu=0 message=\"told to\"",
        "[cpu0]   RSP=0x1",
        "@ringside verdict outcome=panic records=0 warnings=0",
    ] {
        let seen = facts.take(line.as_bytes());
        watch.take(line.as_bytes(), &seen);
    }
    let judgement = judge(Ending::Status(37), &facts);
    watch.finish(judgement.outcome, &facts, Some(10));
    assert!(watch.problems.iter().all(|problem| matches!(problem, Problem::Line { .. })));
    assert!(watch.problems.len() <= 1);
}
