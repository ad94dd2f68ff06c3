//! The last events of each CPU, for pictures: a limited number of the most recent slices of time and marks.

use std::collections::VecDeque;

use kernel_abi::trace::{Kind, Record};

use super::error::Error;
use super::file::{Cpu, Header};
use super::merge::Event;
use super::sink::Sink;
use super::spans::{Span, Spans, Step, is_edge};

/// Maximum length of the default window, in nanoseconds. It is short enough for a call of 100 ns to be visible.
const WINDOW_MAX: u64 = 100_000;
/// A CPU counts as busy in a window if it makes at least this many calls there.
const BUSY_CALLS: usize = 3;

/// A slice of time: a system call or idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The kind of slice. It is never a program, which would be as long as the picture.
    pub span: Span,
    /// When the slice began, in nanoseconds since kernel start.
    pub begin: u64,
    /// When the slice ended, in nanoseconds since kernel start.
    pub end: u64,
    /// Whether the end event of the slice is known. If not, the slice is cut.
    pub complete: bool,
}

/// A mark: an event without duration.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// The time of the event, in nanoseconds since kernel start.
    pub ns: u64,
    /// The kind of the event.
    pub kind: Kind,
    /// The record of the event.
    pub record: Record,
}

/// The timeline of one CPU.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The CPU's entry in the header.
    pub cpu: Cpu,
    /// The CPU's latest slices, ordered by end time.
    pub slices: VecDeque<Slice>,
    /// The CPU's latest marks.
    pub marks: VecDeque<Mark>,
    /// The times of the CPU's first and last event.
    pub range: Option<(u64, u64)>,
    spans: Spans,
}

/// The timeline of all CPUs.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// One lane per CPU.
    pub lanes: Vec<Lane>,
    limit: usize,
}

impl Timeline {
    /// Creates an empty timeline for a trace with this header. It keeps up to `limit` slices and `limit` marks for each
    /// CPU.
    pub fn new(header: &Header, limit: usize) -> Timeline {
        let lane = |cpu: &Cpu| Lane {
            cpu: cpu.clone(),
            slices: VecDeque::new(),
            marks: VecDeque::new(),
            range: None,
            spans: Spans::default(),
        };
        Timeline { lanes: header.cpus.iter().map(lane).collect(), limit }
    }

    /// Returns the start and end of the default window in nanoseconds. It is the latest of the short windows with the
    /// most busy CPUs in which no CPU made more than `calls` calls. If no CPU made a call, it is the entire time range.
    pub fn window(&self, calls: usize) -> (u64, u64) {
        let mut all: Vec<(usize, &Slice)> = Vec::new();
        for (lane, Lane { slices, .. }) in self.lanes.iter().enumerate() {
            // A call that never returned does not count as activity.
            all.extend(
                slices.iter().filter(|slice| slice.is_call() && slice.complete).map(|slice| (lane, slice)),
            );
        }
        all.sort_unstable_by_key(|(_, slice)| slice.end);
        let mut counts = vec![0; self.lanes.len()];
        let (mut oldest, mut best, mut window) = (0, 0, None);
        for (lane, newest) in &all {
            counts[*lane] += 1;
            while counts[*lane] > calls || all[oldest].1.end.saturating_add(WINDOW_MAX) < newest.end {
                counts[all[oldest].0] -= 1;
                oldest += 1;
            }
            let busy = counts.iter().filter(|count| **count >= BUSY_CALLS).count();
            if busy >= best {
                let from = all[oldest].1.begin.max(newest.end.saturating_sub(WINDOW_MAX));
                (best, window) = (busy, Some((from, newest.end)));
            }
        }
        window.filter(|(from, to)| from < to).unwrap_or_else(|| self.range())
    }

    /// Discards the early part of the timeline, up to the same time for all CPUs, so that at most `limit` slices and
    /// `limit` marks remain.
    pub fn keep_last(&mut self, limit: usize) {
        let slices = self.lanes.iter().flat_map(|lane| lane.slices.iter().map(|slice| slice.end)).collect();
        let marks = self.lanes.iter().flat_map(|lane| lane.marks.iter().map(|mark| mark.ns)).collect();
        let from = nth_last(slices, limit).max(nth_last(marks, limit));
        for lane in &mut self.lanes {
            lane.slices.retain(|slice| slice.end >= from);
            lane.marks.retain(|mark| mark.ns >= from);
        }
    }

    /// Returns the time of the first slice or mark, and the time of the last event.
    pub fn range(&self) -> (u64, u64) {
        let slices = self.lanes.iter().filter_map(|lane| lane.slices.front()).map(|slice| slice.begin);
        let marks = self.lanes.iter().filter_map(|lane| lane.marks.front()).map(|mark| mark.ns);
        let last = self.lanes.iter().filter_map(|lane| lane.range).map(|(_, last)| last);
        (slices.chain(marks).min().unwrap_or(0), last.max().unwrap_or(0))
    }
}

impl Slice {
    /// Returns whether the slice is a system call.
    pub fn is_call(&self) -> bool {
        matches!(self.span, Span::Syscall(_))
    }
}

impl Sink for Timeline {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        let Event { ns, lane, kind, record } = *event;
        let (lane, limit) = (&mut self.lanes[lane], self.limit);
        lane.range = Some((lane.range.map_or(ns, |(first, _)| first), ns));
        let Some(kind) = kind else { return Ok(()) };
        let slices = &mut lane.slices;
        lane.spans.take(ns, kind, &record, |step| keep(slices, step, ns, limit));
        // A program is not a slice here. Its start and its end are marks.
        if !is_edge(kind) || matches!(kind, Kind::ProgramStart | Kind::ProgramEnd) {
            push(&mut lane.marks, Mark { ns, kind, record }, limit);
        }
        Ok(())
    }

    /// Ends slices that are still open at the last event of their CPU.
    fn finish(&mut self) -> Result<(), Error> {
        let limit = self.limit;
        for lane in &mut self.lanes {
            let Some((_, last)) = lane.range else { continue };
            let slices = &mut lane.slices;
            lane.spans.end(|step| keep(slices, step, last, limit));
        }
        Ok(())
    }
}

fn keep(slices: &mut VecDeque<Slice>, step: Step, end: u64, limit: usize) {
    if let Step::Close { span, start, complete } = step
        && span != Span::Program
    {
        push(slices, Slice { span, begin: start, end, complete }, limit);
    }
}

/// Returns the earliest time after which at most `count` of these times remain.
fn nth_last(mut times: Vec<u64>, count: usize) -> u64 {
    match times.len().checked_sub(count + 1) {
        Some(place) => times.select_nth_unstable(place).1.saturating_add(1),
        None => 0,
    }
}

fn push<T>(to: &mut VecDeque<T>, new: T, limit: usize) {
    if to.len() == limit {
        to.pop_front();
    }
    to.push_back(new);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Creates a timeline of these events. An event consists of nanoseconds, CPU, kind and first number.
    pub fn timeline(cpus: u32, limit: usize, events: &[(u64, usize, Kind, u64)]) -> Timeline {
        let cpus = (0..cpus).map(|cpu| Cpu { cpu, ..Cpu::default() }).collect();
        let mut timeline = Timeline::new(&Header { cpus, ..Header::default() }, limit);
        for &(ns, lane, kind, a) in events {
            let record = Record { a, kind: kind as u16, ..Record::default() };
            timeline.event(&Event { ns, lane, kind: Some(kind), record }).expect("cannot draw the event");
        }
        timeline.finish().expect("cannot finish");
        timeline
    }

    /// Returns the events of `count` calls on CPU `lane`, one every 10 ns, each 6 ns long.
    pub fn calls(lane: usize, from: u64, count: u64) -> Vec<(u64, usize, Kind, u64)> {
        let at = |n: u64| from + 10 * n;
        (0..count)
            .flat_map(|n| {
                [(at(n), lane, Kind::SyscallEnter, n % 3), (at(n) + 6, lane, Kind::SyscallExit, n % 3)]
            })
            .collect()
    }

    #[test]
    fn latest_are_kept_and_open_slices_end_with_the_trace() {
        use Kind::*;
        let events = [
            (1, 0, ProgramStart, 0),
            (10, 0, SyscallEnter, 1),
            (15, 0, SyscallExit, 1),
            (20, 0, SyscallEnter, 2),
            (22, 0, Tick, 7),
            (25, 0, SyscallExit, 2),
            (30, 0, SyscallEnter, 3),
            (33, 0, Tick, 8),
        ];
        let timeline = timeline(1, 2, &events);
        let lane = &timeline.lanes[0];
        let slice =
            |number, begin, end, complete| Slice { span: Span::Syscall(number), begin, end, complete };
        assert_eq!(lane.slices, [slice(2, 20, 25, true), slice(3, 30, 33, false)]);
        assert_eq!(
            lane.marks.iter().map(|mark| (mark.ns, mark.record.a)).collect::<Vec<_>>(),
            [(22, 7), (33, 8)]
        );
        assert_eq!((lane.range, timeline.range()), (Some((1, 33)), (20, 33)));
    }

    #[test]
    fn default_window_is_the_latest_with_most_cpus_busy() {
        // CPU 0 ends long before CPU 1, with a call that does not return.
        let exit = vec![(1600, 0, Kind::SyscallEnter, 3), (3000, 0, Kind::Tick, 1)];
        let events = [calls(0, 1000, 50), calls(1, 1005, 100), exit].concat();
        // If the window started one call of CPU 1 later, CPU 0 would have only two calls in it and would not be busy.
        let (from, to) = timeline(2, 1000, &events).window(5);
        assert_eq!(to, 1521, "calls 47 to 51 of CPU 1, and of CPU 0 from 47 on");
        assert_eq!(from, 1470);
        let ticks = [(3, 0, Kind::Tick, 1), (9, 0, Kind::Tick, 2)];
        assert_eq!(timeline(1, 5, &ticks).window(5), (3, 9));
        assert_eq!(timeline(1, 5, &[]).window(5), (0, 0));
    }

    #[test]
    fn all_cpus_keep_the_same_range_of_time() {
        let mut timeline = timeline(2, 1000, &[calls(0, 1000, 10), calls(1, 1005, 100)].concat());
        timeline.keep_last(30);
        let counts = timeline.lanes.iter().map(|lane| lane.slices.len()).collect::<Vec<_>>();
        assert_eq!(counts, [0, 30]);
        timeline.keep_last(1000);
        assert_eq!(timeline.lanes[1].slices.len(), 30);
    }
}
