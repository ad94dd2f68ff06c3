//! What the copies count against what the kernel counts, to the last call.

use kernel_abi::record::Outcome;
use machine::facts::Facts;

use super::problem::Problem;
use super::said::Last;

/// What a CPU's program said last, and how much of what it wrote came.
pub struct Told<'a> {
    /// Dense index.
    pub cpu: u32,
    /// Its last line; none came if `None`.
    pub last: Option<&'a Last>,
    /// Written lines that came.
    pub lines: u64,
    /// Did it find something wrong? It ends early then.
    pub violated: bool,
}

/// Compares, for each program that came to its end. `calls` is how many calls of the mix each has to make, if that
/// is how it ends.
pub fn compare(facts: &Facts, told: &[Told<'_>], calls: Option<u64>) -> Vec<Problem> {
    let exited = facts.cpus.iter().filter(|cpu| cpu.outcome == Outcome::Exited);
    let mut problems = Vec::new();
    for record in exited {
        let cpu = record.cpu;
        let told = told.iter().find(|told| told.cpu == cpu);
        let Some((told, last)) = told.and_then(|told| Some((told, told.last?))) else {
            problems.push(Problem::NoLast { cpu });
            continue;
        };
        if let Some(wanted) = calls.filter(|&wanted| wanted != last.calls && !told.violated) {
            problems.push(Problem::OtherCalls { cpu, wanted, got: last.calls });
        }
        if last.lines != told.lines {
            problems.push(Problem::LinesLost { cpu, written: last.lines, came: told.lines });
        }
        let kernel: Vec<_> = facts.calls.iter().filter(|calls| calls.cpu == cpu).collect();
        let [kernel] = kernel.as_slice() else {
            problems.push(Problem::NoCounts { cpu, records: kernel.len() });
            continue;
        };
        for (number, (&program, &kernel)) in last.counts.iter().zip(&kernel.counts).enumerate() {
            if program != kernel {
                problems.push(Problem::Count { cpu, number, program, kernel });
            }
        }
        let sum = kernel.counts.iter().sum();
        if sum != record.syscalls {
            problems.push(Problem::Sum { cpu, sum, total: record.syscalls });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use kernel_abi::syscall::TABLE_LEN;

    use super::super::seeds::Seed;
    use super::*;

    const COUNTS: &str = "8,1,2,1,1,0,0,0,0,0,0,0,0,0,0,3,4";

    fn facts(counts: &str, syscalls: u64) -> Facts {
        let mut facts = Facts::default();
        for line in [
            format!("@ringside calls cpu=1 counts={counts}"),
            format!(
                "@ringside cpu cpu=1 apic_id=1 program=\"stress\" outcome=exited code=0 starts=1 killed=0 syscalls={syscalls} ticks=0 \
                 tick_millihertz=0 reason=\"\""
            ),
        ] {
            facts.take(line.as_bytes());
        }
        facts
    }

    fn last() -> Last {
        let mut counts = [0; TABLE_LEN + 1];
        for (count, word) in counts.iter_mut().zip(COUNTS.split(',')) {
            *count = word.parse().expect("a number");
        }
        Last { seed: Seed(1), calls: 10, lines: 6, counts }
    }

    fn told(last: &Last) -> Told<'_> {
        Told { cpu: 1, last: Some(last), lines: 6, violated: false }
    }

    #[test]
    fn equal_to_the_last_call_is_no_problem() {
        assert_eq!(compare(&facts(COUNTS, 20), &[told(&last())], Some(10)), []);
        assert_eq!(compare(&facts(COUNTS, 20), &[told(&last())], None), []);
    }

    #[test]
    fn every_number_that_differs_is_a_problem_of_its_own() {
        let facts = facts("7,1,2,1,1,0,0,0,0,0,0,0,0,0,0,3,5", 20);
        assert_eq!(
            compare(&facts, &[told(&last())], Some(10)),
            [
                Problem::Count { cpu: 1, number: 0, program: 8, kernel: 7 },
                Problem::Count { cpu: 1, number: TABLE_LEN, program: 4, kernel: 5 },
            ]
        );
    }

    #[test]
    fn the_kernels_own_sum_has_to_agree() {
        assert_eq!(
            compare(&facts(COUNTS, 21), &[told(&last())], Some(10)),
            [Problem::Sum { cpu: 1, sum: 20, total: 21 }]
        );
    }

    #[test]
    fn a_program_that_ends_has_a_last_line_and_the_kernel_counters() {
        let silent = Told { last: None, ..told(&last()) };
        assert_eq!(compare(&facts(COUNTS, 20), &[silent], None), [Problem::NoLast { cpu: 1 }]);
        assert_eq!(compare(&facts(COUNTS, 20), &[], None), [Problem::NoLast { cpu: 1 }]);
        let mut without = facts(COUNTS, 20);
        without.calls.clear();
        assert_eq!(compare(&without, &[told(&last())], None), [Problem::NoCounts { cpu: 1, records: 0 }]);
    }

    #[test]
    fn calls_and_lines_are_those_that_were_asked_for_and_written() {
        let last = last();
        let few = Told { lines: 5, ..told(&last) };
        assert_eq!(
            compare(&facts(COUNTS, 20), &[few], Some(11)),
            [
                Problem::OtherCalls { cpu: 1, wanted: 11, got: 10 },
                Problem::LinesLost { cpu: 1, written: 6, came: 5 },
            ]
        );
        let violated = Told { violated: true, ..told(&last) };
        assert_eq!(compare(&facts(COUNTS, 20), &[violated], Some(11)), []);
    }
}
