//! Formats the charts' data as JSON, in the form that `page.js` reads.

use kernel_abi::syscall::{Call, FREE};
use serde_json::{Value, json};
use trace::shape::{Described, NO_SYSCALL};
use trace::spans::Span;
use trace::stats::distribution::{Distribution, floor};
use trace::timeline::{Lane, Timeline};

use crate::stress::evidence::Evidence;

/// Number of system calls of the busiest CPU in the timeline's initial window.
const WINDOW_CALLS: usize = 40;

/// Returns the data for all charts of a boot.
pub fn boot(evidence: &Evidence) -> Value {
    let trace = evidence.trace.as_ref().ok();
    json!({
        "rate": rate(evidence),
        "jitter": jitter(evidence),
        "latency": trace.map(|trace| latency(&trace.distributions)),
        "timeline": trace.map(|trace| timeline(&trace.timeline)),
    })
}

/// Returns calls per second over time. `x` is in seconds; `y` has a list for each CPU.
fn rate(evidence: &Evidence) -> Value {
    let speeds = evidence.samples.speeds();
    let cpus = evidence.samples.last().len();
    let x: Vec<_> = speeds.iter().map(|(second, _)| *second).collect();
    let of = |cpu: usize| speeds.iter().map(|(_, speeds)| speeds[cpu].round()).collect::<Vec<_>>();
    json!({ "x": x, "y": (0..cpus).map(of).collect::<Vec<_>>(), "cpus": (0..cpus).collect::<Vec<_>>() })
}

/// Returns the smallest range of deviation buckets that contains the ticks of all CPUs.
pub fn deviations(evidence: &Evidence) -> std::ops::Range<usize> {
    let used = |class: &usize| evidence.counters.iter().any(|cpu| cpu.deviations[*class] != 0);
    let mut classes = (0..kernel_abi::counters::CLASSES).filter(used);
    let first = classes.next().unwrap_or(0);
    first..classes.next_back().map_or(first + 1, |last| last + 1)
}

/// Returns the lower bound of a deviation bucket in microseconds. Bucket 0 starts at 0, but half a TSC tick is
/// returned, because a logarithmic scale has no 0.
pub fn deviation_floor(class: usize, tsc_hz: u64) -> f64 {
    let ticks = 2_f64.powi(i32::try_from(class).unwrap_or(i32::MAX) - 1);
    ticks * 1e6 / tsc_hz.max(1) as f64
}

/// Returns ticks by deviation. `x` has the lower bound of each bucket and the upper bound of the last bucket.
fn jitter(evidence: &Evidence) -> Value {
    let Some(clock) = &evidence.clock else { return Value::Null };
    let classes = deviations(evidence);
    let x: Vec<_> = (classes.start..=classes.end).map(|class| deviation_floor(class, clock.tsc_hz)).collect();
    let of = |cpu: &crate::counters::Snapshot| {
        classes.clone().map(|class| cpu.deviations[class]).chain([0]).collect::<Vec<_>>()
    };
    let cpus: Vec<_> = (0..evidence.counters.len()).collect();
    json!({ "x": x, "y": evidence.counters.iter().map(of).collect::<Vec<_>>(), "cpus": cpus })
}

/// Returns latency histograms: the first for all system calls together, then one for each system call. `x` has bounds
/// in microseconds as in [`jitter`].
fn latency(distributions: &[Distribution]) -> Value {
    let mut names: Vec<_> = distributions.iter().map(|one| one.name).collect();
    let mut cpus: Vec<_> = distributions.iter().map(|one| one.cpu).collect();
    names.sort_unstable();
    names.dedup();
    cpus.sort_unstable();
    cpus.dedup();
    let histogram = |name: Option<&str>| {
        let of: Vec<_> =
            distributions.iter().filter(|one| name.is_none_or(|name| one.name == name)).collect();
        let classes = || of.iter().flat_map(|one| &one.classes).map(|(class, _)| *class);
        let (first, end) = (classes().min().unwrap_or(0), classes().max().unwrap_or(0) + 1);
        let count = |cpu: &u32, class: u32| -> u64 {
            let here = of.iter().filter(|one| one.cpu == *cpu).flat_map(|one| &one.classes);
            here.filter(|(other, _)| *other == class).map(|(_, count)| count).sum()
        };
        let x: Vec<_> = (first..=end).map(|class| floor(class) / 1e3).collect();
        let of_cpu = |cpu: &u32| (first..=end).map(|class| count(cpu, class)).collect::<Vec<_>>();
        let y: Vec<_> = cpus.iter().map(of_cpu).collect();
        json!({ "name": name.unwrap_or("all system calls"), "x": x, "y": y, "cpus": cpus })
    };
    let all = std::iter::once(histogram(None));
    all.chain(names.iter().map(|name| histogram(Some(name)))).collect()
}

/// Returns the timeline. Times are in nanoseconds since `origin`; `origin` is in nanoseconds since the kernel's start.
fn timeline(timeline: &Timeline) -> Value {
    let (first, end) = timeline.range();
    // A multiple of 1 ms, so that labels on the time axis are round numbers.
    let origin = first - first % 1_000_000;
    let (from, to) = timeline.window(WINDOW_CALLS);
    let lane = |lane: &Lane| {
        let slices = lane.slices.iter().map(|slice| {
            let (begin, length) = (slice.begin.saturating_sub(origin), slice.end - slice.begin);
            json!([colour(slice.span), begin, length, u8::from(slice.complete)])
        });
        let marks = lane.marks.iter().map(|mark| {
            json!([mark.kind.name(), mark.ns.saturating_sub(origin), Described(&mark.record).to_string()])
        });
        let first = lane.range.map_or(0, |(first, _)| first.saturating_sub(origin));
        let last = lane.range.map_or(0, |(_, last)| last.saturating_sub(origin));
        json!({
            "cpu": lane.cpu.cpu, "first": first, "last": last,
            "slices": slices.collect::<Vec<_>>(), "marks": marks.collect::<Vec<_>>(),
        })
    };
    // Omit CPUs that recorded no event.
    let mut lanes: Vec<_> = timeline.lanes.iter().filter(|lane| lane.range.is_some()).collect();
    lanes.sort_by_key(|lane| lane.cpu.cpu);
    json!({
        "origin": origin, "end": end - origin, "window": [from.saturating_sub(origin), to.saturating_sub(origin)],
        "names": Call::ALL.map(Call::name).into_iter().chain([NO_SYSCALL, "idle"]).collect::<Vec<_>>(),
        "lanes": lanes.into_iter().map(lane).collect::<Vec<_>>(),
    })
}

/// Returns the index of a slice's colour and name: the system call's number, or one of the indices for unknown calls
/// and idle time.
fn colour(span: Span) -> u64 {
    match span {
        Span::Syscall(number) => number.min(FREE.start),
        Span::Program | Span::Idle => FREE.start + 1,
    }
}
