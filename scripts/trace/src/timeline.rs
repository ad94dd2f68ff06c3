//! The last moments of each CPU, for pictures: slices of time and marks, the latest so many of each.

use std::collections::VecDeque;

use kernel_abi::trace::{Kind, Record};

use super::error::Error;
use super::file::{Cpu, Header};
use super::merge::Event;
use super::sink::Sink;
use super::spans::{Span, Spans, Step, is_edge};

/// How long a moment is at most, in nanoseconds: so short that a call of a tenth of a microsecond can be seen in it.
const MOMENT: u64 = 100_000;
/// A CPU is at work in a moment if it makes so many calls in it.
const AT_WORK: usize = 3;

/// A system call, or a time without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// What it is; never a program, whose life is as long as the picture.
    pub span: Span,
    /// When it began, in nanoseconds since the kernel's start.
    pub begin: u64,
    /// When it ended.
    pub end: u64,
    /// Whether its own end is known: it is cut otherwise.
    pub whole: bool,
}

/// What has no length.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When it was.
    pub ns: u64,
    /// What it is.
    pub kind: Kind,
    /// The record.
    pub record: Record,
}

/// One CPU.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Which it is.
    pub cpu: Cpu,
    /// Its latest slices, in the order of their ends.
    pub slices: VecDeque<Slice>,
    /// Its latest marks.
    pub marks: VecDeque<Mark>,
    /// The times of its first event and of its last.
    pub range: Option<(u64, u64)>,
    spans: Spans,
}

/// All CPUs.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// One a CPU.
    pub lanes: Vec<Lane>,
    limit: usize,
}

impl Timeline {
    /// Of a trace with this header; so many slices and so many marks of each CPU are kept.
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

    /// Where a look is worth while: the latest of the short moments in which most CPUs made calls. None of them made more
    /// than `calls`. From and to, in nanoseconds; all there is, if nobody made any.
    pub fn window(&self, calls: usize) -> (u64, u64) {
        let mut all: Vec<(usize, &Slice)> = Vec::new();
        for (lane, Lane { slices, .. }) in self.lanes.iter().enumerate() {
            // A call that never returned says nothing of work.
            all.extend(
                slices.iter().filter(|slice| slice.is_call() && slice.whole).map(|slice| (lane, slice)),
            );
        }
        all.sort_unstable_by_key(|(_, slice)| slice.end);
        let mut counts = vec![0; self.lanes.len()];
        let (mut oldest, mut best, mut window) = (0, 0, None);
        for (lane, newest) in &all {
            counts[*lane] += 1;
            while counts[*lane] > calls || all[oldest].1.end + MOMENT < newest.end {
                counts[all[oldest].0] -= 1;
                oldest += 1;
            }
            let at_work = counts.iter().filter(|count| **count >= AT_WORK).count();
            if at_work >= best {
                let from = all[oldest].1.begin.max(newest.end.saturating_sub(MOMENT));
                (best, window) = (at_work, Some((from, newest.end)));
            }
        }
        window.filter(|(from, to)| from < to).unwrap_or_else(|| self.range())
    }

    /// Leaves only the last stretch of time, the same for all CPUs, in which there are at most so many slices, and as many
    /// marks.
    pub fn keep_last(&mut self, limit: usize) {
        let slices = self.lanes.iter().flat_map(|lane| lane.slices.iter().map(|slice| slice.end)).collect();
        let marks = self.lanes.iter().flat_map(|lane| lane.marks.iter().map(|mark| mark.ns)).collect();
        let from = nth_last(slices, limit).max(nth_last(marks, limit));
        for lane in &mut self.lanes {
            lane.slices.retain(|slice| slice.end >= from);
            lane.marks.retain(|mark| mark.ns >= from);
        }
    }

    /// The times of the first thing that is kept and of the last event.
    pub fn range(&self) -> (u64, u64) {
        let slices = self.lanes.iter().filter_map(|lane| lane.slices.front()).map(|slice| slice.begin);
        let marks = self.lanes.iter().filter_map(|lane| lane.marks.front()).map(|mark| mark.ns);
        let last = self.lanes.iter().filter_map(|lane| lane.range).map(|(_, last)| last);
        (slices.chain(marks).min().unwrap_or(0), last.max().unwrap_or(0))
    }
}

impl Slice {
    /// Is it a system call?
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
        // A program is no slice here: its start and its end are marks.
        if !is_edge(kind) || matches!(kind, Kind::ProgramStart | Kind::ProgramEnd) {
            push(&mut lane.marks, Mark { ns, kind, record }, limit);
        }
        Ok(())
    }

    /// What is still open reaches to its CPU's last event.
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
    if let Step::Close { span, begun, whole } = step
        && span != Span::Program
    {
        push(slices, Slice { span, begin: begun, end, whole }, limit);
    }
}

/// The time from which on there are at most `count` of these.
fn nth_last(mut times: Vec<u64>, count: usize) -> u64 {
    match times.len().checked_sub(count + 1) {
        Some(place) => *times.select_nth_unstable(place).1 + 1,
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

    /// A timeline of these events: nanoseconds, CPU, kind, and its first number.
    pub fn timeline(cpus: u32, limit: usize, events: &[(u64, usize, Kind, u64)]) -> Timeline {
        let cpus = (0..cpus).map(|cpu| Cpu { cpu, ..Cpu::default() }).collect();
        let mut timeline = Timeline::new(&Header { cpus, ..Header::default() }, limit);
        for &(ns, lane, kind, a) in events {
            let record = Record { a, kind: kind as u16, ..Record::default() };
            timeline.event(&Event { ns, lane, kind: Some(kind), record }).expect("takes it");
        }
        timeline.finish().expect("ends");
        timeline
    }

    /// Calls of CPU `lane`, each 6 ns long, every 10 ns.
    pub fn calls(lane: usize, from: u64, count: u64) -> Vec<(u64, usize, Kind, u64)> {
        let at = |n: u64| from + 10 * n;
        (0..count)
            .flat_map(|n| {
                [(at(n), lane, Kind::SyscallEnter, n % 3), (at(n) + 6, lane, Kind::SyscallExit, n % 3)]
            })
            .collect()
    }

    #[test]
    fn the_latest_stay_and_what_is_open_reaches_to_the_end() {
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
        let slice = |number, begin, end, whole| Slice { span: Span::Syscall(number), begin, end, whole };
        assert_eq!(lane.slices, [slice(2, 20, 25, true), slice(3, 30, 33, false)]);
        assert_eq!(
            lane.marks.iter().map(|mark| (mark.ns, mark.record.a)).collect::<Vec<_>>(),
            [(22, 7), (33, 8)]
        );
        assert_eq!((lane.range, timeline.range()), (Some((1, 33)), (20, 33)));
    }

    #[test]
    fn the_window_is_the_latest_in_which_most_were_at_work() {
        // CPU 0 ends long before CPU 1 does, by a call that does not return.
        let exit = vec![(1600, 0, Kind::SyscallEnter, 3), (3000, 0, Kind::Tick, 1)];
        let events = [calls(0, 1000, 50), calls(1, 1005, 100), exit].concat();
        // The fifth call of CPU 1 up to now would be its fourth, once those of CPU 0 were only three.
        let (from, to) = timeline(2, 1000, &events).window(5);
        assert_eq!(to, 1521, "calls 47 to 51 of CPU 1, and of CPU 0 from 47 on");
        assert_eq!(from, 1470);
        let ticks = [(3, 0, Kind::Tick, 1), (9, 0, Kind::Tick, 2)];
        assert_eq!(timeline(1, 5, &ticks).window(5), (3, 9));
        assert_eq!(timeline(1, 5, &[]).window(5), (0, 0));
    }

    #[test]
    fn all_cpus_keep_the_same_stretch_of_time() {
        let mut timeline = timeline(2, 1000, &[calls(0, 1000, 10), calls(1, 1005, 100)].concat());
        timeline.keep_last(30);
        let counts = timeline.lanes.iter().map(|lane| lane.slices.len()).collect::<Vec<_>>();
        assert_eq!(counts, [0, 30]);
        timeline.keep_last(1000);
        assert_eq!(timeline.lanes[1].slices.len(), 30);
    }
}
