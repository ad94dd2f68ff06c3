//! Compares the programs' counts of system calls with the kernel's. They must be exactly equal.

use kernel_abi::record::Outcome;
use machine::facts::Facts;
use machine::report::sum;

use super::console_line::LastLine;
use super::problem::Problem;

/// The output of a CPU's program: its last line, and the number of its numbered lines that were received.
pub struct ProgramOutput<'a> {
    /// Dense index.
    pub cpu: u32,
    /// The program's last line; `None` if it was not received.
    pub last: Option<&'a LastLine>,
    /// Numbered lines that were received.
    pub lines: u64,
    /// Whether the program reported a violation. It then exits early.
    pub violated: bool,
}

/// Compares the counts of each program that exited. `calls` is the value of `--calls`: the number of calls from the mix
/// that each program must make. It is `None` if only the time limit ends the boot.
pub fn compare(facts: &Facts, programs: &[ProgramOutput<'_>], calls: Option<u64>) -> Vec<Problem> {
    let exited = facts.cpus.iter().filter(|cpu| cpu.outcome == Outcome::Exited);
    let mut problems = Vec::new();
    for record in exited {
        let cpu = record.cpu;
        let program = programs.iter().find(|program| program.cpu == cpu);
        let Some((output, last)) = program.and_then(|program| Some((program, program.last?))) else {
            problems.push(Problem::NoLastLine { cpu });
            continue;
        };
        if let Some(expected) = calls.filter(|&expected| expected != last.calls && !output.violated) {
            problems.push(Problem::WrongCalls { cpu, expected, got: last.calls });
        }
        if last.lines != output.lines {
            problems.push(Problem::LinesLost { cpu, written: last.lines, received: output.lines });
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
        let sum = sum(kernel.counts);
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

    fn last() -> LastLine {
        let mut counts = [0; TABLE_LEN + 1];
        for (count, word) in counts.iter_mut().zip(COUNTS.split(',')) {
            *count = word.parse().expect("there must be a number");
        }
        LastLine { seed: Seed(1), calls: 10, lines: 6, counts }
    }

    fn output(last: &LastLine) -> ProgramOutput<'_> {
        ProgramOutput { cpu: 1, last: Some(last), lines: 6, violated: false }
    }

    #[test]
    fn equal_counts_are_no_problem() {
        assert_eq!(compare(&facts(COUNTS, 20), &[output(&last())], Some(10)), []);
        assert_eq!(compare(&facts(COUNTS, 20), &[output(&last())], None), []);
    }

    #[test]
    fn each_count_that_differs_is_a_problem() {
        let facts = facts("7,1,2,1,1,0,0,0,0,0,0,0,0,0,0,3,5", 20);
        assert_eq!(
            compare(&facts, &[output(&last())], Some(10)),
            [
                Problem::Count { cpu: 1, number: 0, program: 8, kernel: 7 },
                Problem::Count { cpu: 1, number: TABLE_LEN, program: 4, kernel: 5 },
            ]
        );
    }

    #[test]
    fn kernel_counts_must_add_up_to_total() {
        assert_eq!(
            compare(&facts(COUNTS, 21), &[output(&last())], Some(10)),
            [Problem::Sum { cpu: 1, sum: 20, total: 21 }]
        );
    }

    #[test]
    fn exited_program_needs_last_line_and_kernel_counters() {
        let without_last = ProgramOutput { last: None, ..output(&last()) };
        assert_eq!(compare(&facts(COUNTS, 20), &[without_last], None), [Problem::NoLastLine { cpu: 1 }]);
        assert_eq!(compare(&facts(COUNTS, 20), &[], None), [Problem::NoLastLine { cpu: 1 }]);
        let mut without = facts(COUNTS, 20);
        without.calls.clear();
        assert_eq!(compare(&without, &[output(&last())], None), [Problem::NoCounts { cpu: 1, records: 0 }]);
    }

    #[test]
    fn wrong_numbers_of_calls_and_lines_are_problems() {
        let last = last();
        let few = ProgramOutput { lines: 5, ..output(&last) };
        assert_eq!(
            compare(&facts(COUNTS, 20), &[few], Some(11)),
            [
                Problem::WrongCalls { cpu: 1, expected: 11, got: 10 },
                Problem::LinesLost { cpu: 1, written: 6, received: 5 },
            ]
        );
        let violated = ProgramOutput { violated: true, ..output(&last) };
        assert_eq!(compare(&facts(COUNTS, 20), &[violated], Some(11)), []);
    }
}
