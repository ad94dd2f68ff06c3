//! The distribution of the durations of a system call, in logarithmic classes.

use serde::Serialize;

use super::{Calls, Stats};
use crate::shape::{NO_SYSCALL, syscall_name};

/// Number of classes per doubling of the duration.
pub const PER_OCTAVE: u32 = 4;

/// The durations of one system call on one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// Index of the CPU in the CPU list.
    pub cpu: u32,
    /// The name of the system call.
    pub name: &'static str,
    /// The non-empty classes, each with the number of calls in it. Class n contains the durations from [`floor`]`(n)`
    /// to less than `floor(n + 1)`.
    pub classes: Vec<(u32, u64)>,
}

/// Returns the class of a duration. Durations below 1 ns count as 1 ns.
pub fn class(ns: u64) -> u32 {
    (f64::from(PER_OCTAVE) * (ns.max(1) as f64).log2()).floor() as u32
}

/// Returns the lower bound of a class in nanoseconds.
pub fn floor(class: u32) -> f64 {
    2_f64.powf(f64::from(class) / f64::from(PER_OCTAVE))
}

impl Stats {
    /// Returns the distribution of durations for each system call on each CPU.
    pub fn distributions(&self) -> Vec<Distribution> {
        let lane = |lane: &super::Lane| {
            let cpu = lane.cpu.cpu;
            let one = |(key, calls): (&u64, &Calls)| Distribution {
                cpu,
                name: syscall_name(*key).unwrap_or(NO_SYSCALL),
                classes: classes(calls),
            };
            lane.calls.iter().map(one).collect::<Vec<_>>()
        };
        self.lanes.iter().flat_map(lane).filter(|one| !one.classes.is_empty()).collect()
    }
}

fn classes(calls: &Calls) -> Vec<(u32, u64)> {
    let mut classes: Vec<(u32, u64)> = Vec::new();
    for (ns, count) in calls.ns.iter() {
        let class = class(ns);
        match classes.last_mut() {
            Some((last, sum)) if *last == class => *sum += count,
            _ => classes.push((class, count)),
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_contains_durations_from_its_floor_to_the_next() {
        assert_eq!([0, 1, 2, 3, 4, 1024].map(class), [0, 0, 4, 6, 8, 40]);
        for ns in [1, 5, 99, 1000, 123_456_789] {
            let class = class(ns);
            assert!(floor(class) <= ns as f64 + 1e-6 && (ns as f64) < floor(class + 1), "{ns}");
        }
    }

    #[test]
    fn durations_of_one_class_are_one_entry() {
        let mut calls = Calls::new().expect("there must be a histogram");
        for ns in [1000, 1001, 1002, 5000] {
            calls.ns.record(ns).expect("cannot record");
        }
        assert_eq!(classes(&calls), [(39, 3), (49, 1)]);
    }
}
