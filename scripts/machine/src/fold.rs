//! Combines equal results of many CPUs into one line, with ranges in place of numbers.

use std::fmt::Display;

use crate::facts::Cpu;

/// Results are combined only if there are more CPUs than this number. On a machine of ordinary size each CPU has its
/// own line.
pub const FOLD_ABOVE: usize = 32;

/// Sorts results by CPU.
pub fn sorted<'a>(cpus: impl IntoIterator<Item = &'a Cpu>) -> Vec<&'a Cpu> {
    let mut sorted: Vec<_> = cpus.into_iter().collect();
    sorted.sort_by_key(|cpu| cpu.cpu);
    sorted
}

/// Splits results, which are sorted by CPU, into groups of CPUs with consecutive indices and equal results. Counts and
/// rates, which normally differ between CPUs, need not be equal. If there are at most [`FOLD_ABOVE`] CPUs, each CPU is
/// a group.
pub fn runs<'a>(sorted: &'a [&'a Cpu]) -> impl Iterator<Item = &'a [&'a Cpu]> {
    let many = sorted.len() > FOLD_ABOVE;
    sorted.chunk_by(move |a, b| many && continues(a, b))
}

fn continues(a: &Cpu, b: &Cpu) -> bool {
    let result = |cpu: &Cpu| (cpu.outcome, cpu.code, cpu.starts, cpu.killed);
    a.cpu.checked_add(1) == Some(b.cpu)
        && a.apic_id < b.apic_id
        && result(a) == result(b)
        && (&a.program, &a.reason, &a.place) == (&b.program, &b.reason, &b.place)
}

/// Formats the lowest and the highest value of the CPUs in a group, or the value if all are equal.
pub fn range<T: PartialOrd + Copy + Display>(run: &[&Cpu], value: impl Fn(&Cpu) -> T) -> String {
    let mut values = run.iter().map(|cpu| value(cpu));
    let Some(first) = values.next() else { return String::new() };
    let (low, high) = values.fold((first, first), |(low, high), value| {
        (if value < low { value } else { low }, if value > high { value } else { high })
    });
    let (low, high) = (low.to_string(), high.to_string());
    if low == high { low } else { format!("{low}-{high}") }
}

/// Formats the CPUs of a group as the subject of a sentence: `CPU 3`, or `CPUs 3-9`.
pub fn names(run: &[&Cpu]) -> String {
    format!("CPU{} {}", if run.len() == 1 { "" } else { "s" }, range(run, |cpu| cpu.cpu))
}

#[cfg(test)]
mod tests {
    use kernel_abi::record::Outcome;

    use super::*;

    fn cpus(count: u32) -> Vec<Cpu> {
        let cpu = |n| Cpu {
            cpu: n,
            apic_id: 2 * n,
            program: "hello".to_owned(),
            outcome: Outcome::Exited,
            code: 0,
            starts: 1,
            killed: 0,
            syscalls: 5 + u64::from(n) % 3,
            ticks: 20,
            tick_millihertz: 100_000,
            reason: String::new(),
            place: None,
        };
        (0..count).map(cpu).collect()
    }

    /// Returns the range of CPUs and of the numbers of system calls of each group.
    fn folded(cpus: &[Cpu]) -> Vec<(String, String)> {
        let sorted: Vec<_> = cpus.iter().collect();
        runs(&sorted).map(|run| (names(run), range(run, |cpu| cpu.syscalls))).collect()
    }

    #[test]
    fn equal_results_of_many_cpus_are_one_group() {
        assert_eq!(folded(&cpus(1024)), [("CPUs 0-1023".to_owned(), "5-7".to_owned())]);
    }

    #[test]
    fn results_of_few_cpus_are_not_combined() {
        assert_eq!(folded(&cpus(32)).len(), 32);
        assert_eq!(folded(&cpus(33)).len(), 1);
    }

    #[test]
    fn a_different_result_ends_a_group() {
        type Change = fn(&mut Cpu);
        let changes: [(&str, Change); 6] = [
            ("outcome", |cpu| cpu.outcome = Outcome::Killed),
            ("code", |cpu| cpu.code = 1),
            ("starts", |cpu| cpu.starts = 2),
            ("program", |cpu| cpu.program.clear()),
            ("reason", |cpu| cpu.reason = "x".to_owned()),
            ("place", |cpu| cpu.place = Some("x".to_owned())),
        ];
        for (what, change) in changes {
            let mut cpus = cpus(40);
            change(&mut cpus[10]);
            let names: Vec<_> = folded(&cpus).into_iter().map(|(names, _)| names).collect();
            assert_eq!(names, ["CPUs 0-9", "CPU 10", "CPUs 11-39"], "{what}");
        }
    }

    #[test]
    fn gaps_and_other_orders_of_ids_end_a_group() {
        let mut cpus = cpus(40);
        cpus[20].apic_id = 1000;
        cpus.remove(10);
        let names: Vec<_> = folded(&cpus).into_iter().map(|(names, _)| names).collect();
        assert_eq!(names, ["CPUs 0-9", "CPUs 11-20", "CPUs 21-39"]);
    }
}
