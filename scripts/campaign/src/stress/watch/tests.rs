//! Consoles as they should be, and with one defect each.

use machine::facts::Facts;
use machine::verify::{Ending, judge};

use super::Watch;
use crate::stress::lines::line;
use crate::stress::problem::Problem;
use crate::stress::seeds::Seed;

const SEED: Seed = Seed(42);

/// A boot of two CPUs with three lines each, in the way in which they come from the kernel.
fn sound() -> Vec<String> {
    let mut lines = vec!["[cpu0] ringside: 735 mappings, none writable and executable".to_owned()];
    for number in 0..3 {
        lines.extend((0..2).map(|cpu| format!("[cpu{cpu}] {}", line(SEED, cpu, number))));
    }
    for cpu in 0..2 {
        lines.push(format!(
            "[cpu{cpu}] stress: seed=0x2a calls=10 lines=3 counts=5,4,0,1,0,0,0,0,0,0,0,0,0,0,0,0,2"
        ));
    }
    lines.push(
        "@ringside boot cpus_found=2 cpus_online=2 x2apic=0 tick_hz=100 tsc_hz=1 apic_timer_hz=1 memory_kib=1 \
         per_cpu_kib=1"
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

/// The sound console with the lines that `change` makes of each.
fn changed(change: impl Fn(usize, &str) -> Vec<String>) -> Vec<Problem> {
    let lines: Vec<_> = sound().iter().enumerate().flat_map(|(n, line)| change(n, line)).collect();
    problems(&lines)
}

/// The place of line 1 of CPU 1 in the sound console.
const PLACE: usize = 4;

#[test]
fn a_sound_console_has_no_problem() {
    assert!(sound()[PLACE].starts_with("[cpu1] w 1 1 "));
    assert_eq!(problems(&sound()), []);
}

#[test]
fn a_byte_that_differs_is_a_problem_and_the_lines_behind_it_are_none() {
    let found = changed(|n, line| {
        let last = line.len() - 1;
        vec![if n == PLACE { format!("{}_", &line[..last]) } else { line.to_owned() }]
    });
    assert!(matches!(found.as_slice(), [Problem::Line { cpu: 1, number: 1, .. }]), "{found:?}");
}

#[test]
fn a_lost_line_shows_at_once_and_in_the_count() {
    let found = changed(|n, line| if n == PLACE { vec![] } else { vec![line.to_owned()] });
    let lost = Problem::LinesLost { cpu: 1, written: 3, came: 2 };
    assert!(matches!(found.as_slice(), [Problem::Line { cpu: 1, number: 1, .. }, last] if *last == lost));
}

#[test]
fn a_line_that_comes_twice_does_too() {
    let found = changed(|n, line| vec![line.to_owned(); 1 + usize::from(n == PLACE)]);
    let many = Problem::LinesLost { cpu: 1, written: 3, came: 4 };
    assert!(matches!(found.as_slice(), [Problem::Line { cpu: 1, number: 2, .. }, last] if *last == many));
}

#[test]
fn the_lines_of_another_cpu_are_wrong_lines() {
    let found =
        changed(|n, line| vec![if n == PLACE { line.replace("[cpu1]", "[cpu0]") } else { line.into() }]);
    assert!(matches!(found.first(), Some(Problem::Line { cpu: 0, number: 2, .. })), "{found:?}");
    assert!(found.iter().any(|p| matches!(p, Problem::Line { cpu: 1, number: 1, .. })), "{found:?}");
}

#[test]
fn a_line_in_two_halves_is_wrong() {
    let found = changed(|n, line| match n {
        PLACE => vec![line[..line.len() - 1].to_owned(), format!("[cpu1] {}", &line[line.len() - 1..])],
        _ => vec![line.to_owned()],
    });
    assert!(matches!(found.first(), Some(Problem::Line { cpu: 1, number: 1, .. })), "{found:?}");
    assert!(found.iter().any(|problem| matches!(problem, Problem::Stray { cpu: Some(1), .. })), "{found:?}");
}

#[test]
fn a_line_may_be_cut_off_where_the_program_found_something_wrong() {
    let found = changed(|n, line| match line {
        _ if n == PLACE => vec![
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
fn very_many_wrong_lines_are_listed_in_part() {
    let mut lines = sound();
    lines.splice(PLACE..PLACE, (0..10).map(|_| "[cpu1] w nonsense".to_owned()));
    let found = problems(&lines);
    let listed = found.iter().filter(|problem| matches!(problem, Problem::Line { .. })).count();
    assert_eq!(listed, 3);
    assert!(found.contains(&Problem::MoreLines { cpu: 1, count: 8 }), "{found:?}");
}

#[test]
fn another_seed_a_second_last_line_and_a_stray_line_are_problems() {
    let found = changed(|_, line| {
        let other = line.replace("seed=0x2a", "seed=0x2b");
        if line.starts_with("[cpu0] stress: ") {
            vec![other.clone(), other, "who?".into()]
        } else {
            vec![line.into()]
        }
    });
    assert_eq!(
        found.iter().filter(|problem| matches!(problem, Problem::OtherSeed { cpu: 0, .. })).count(),
        2
    );
    assert!(found.contains(&Problem::LastTwice { cpu: 0 }));
    assert!(found.contains(&Problem::Stray { cpu: None, line: b"who?".to_vec() }));
}

#[test]
fn what_a_panic_tears_is_its_consequence() {
    let (mut facts, mut watch) = (Facts::default(), Watch::new(SEED));
    let torn = &sound()[PLACE];
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
