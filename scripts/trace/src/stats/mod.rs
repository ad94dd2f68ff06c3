//! Statistics of a trace: durations of system calls, shares of time, and the jitter of ticks.

pub mod distribution;
mod report;
mod sampled;
#[cfg(test)]
mod tests;
mod times;

use std::collections::BTreeMap;

use kernel_abi::syscall::TABLE_LEN;
use kernel_abi::trace::Kind;

pub use self::distribution::Distribution;
pub use self::report::{CallFigures, Report};
use self::report::{CpuFigures, Quantiles};
use self::sampled::Sampled;
use self::times::Times;
use super::error::Error;
use super::file::{Cpu, Header};
use super::merge::Event;
use super::shape::{NO_SYSCALL, syscall_name};
use super::sink::Sink;
use super::spans::{Span, Spans, Step};

/// Collects statistics.
pub struct Stats {
    lanes: Vec<Lane>,
    /// The times of the first and the last event.
    range: Option<(u64, u64)>,
    /// Mask of the kinds that were recorded and that the filter selects.
    kinds: u32,
}

/// The statistics of one CPU.
struct Lane {
    cpu: Cpu,
    events: u64,
    spans: Spans,
    times: Times,
    calls: BTreeMap<u64, Calls>,
    ticks: u64,
    last_tick: Option<u64>,
    intervals: Sampled,
}

/// The statistics of one system call.
struct Calls {
    entered: u64,
    ns: Sampled,
}

impl Calls {
    fn new() -> Result<Calls, Error> {
        Ok(Calls { entered: 0, ns: Sampled::new()? })
    }
}

/// Returns the key under which a number is counted. All numbers without a system call share one key.
fn key(number: u64) -> u64 {
    if syscall_name(number).is_some() { number } else { TABLE_LEN as u64 }
}

impl Stats {
    /// Creates empty statistics for a trace. `filter` is the mask of the selected kinds.
    pub fn new(header: &Header, filter: u32) -> Result<Stats, Error> {
        let lane = |cpu: &Cpu| {
            Ok(Lane {
                cpu: cpu.clone(),
                events: 0,
                spans: Spans::default(),
                times: Times::default(),
                calls: BTreeMap::new(),
                ticks: 0,
                last_tick: None,
                intervals: Sampled::new()?,
            })
        };
        let recorded = Kind::ALL.iter().filter(|kind| header.records_kind(**kind));
        let kinds = recorded.fold(0, |mask, kind| mask | kind.bit()) & filter;
        let lanes = header.cpus.iter().map(lane).collect::<Result<_, Error>>()?;
        Ok(Stats { lanes, range: None, kinds })
    }

    /// Returns the statistics collected so far.
    pub fn report(&self) -> Result<Report, Error> {
        let (first, last) = self.range.unwrap_or_default();
        let cpus = self.lanes.iter().map(|lane| lane.figures(self.kinds)).collect::<Result<_, Error>>()?;
        let mut syscalls = Vec::new();
        let mut sums = BTreeMap::new();
        for lane in &self.lanes {
            for (key, calls) in &lane.calls {
                syscalls.push(figures(Some(lane.cpu.cpu), *key, calls));
                if !sums.contains_key(key) {
                    sums.insert(*key, Calls::new()?);
                }
                if let Some(sum) = sums.get_mut(key) {
                    sum.entered += calls.entered;
                    sum.ns.add(&calls.ns)?;
                }
            }
        }
        syscalls.extend(sums.iter().map(|(key, calls)| figures(None, *key, calls)));
        let events = self.lanes.iter().map(|lane| lane.events).sum();
        Ok(Report { seconds: (last - first) as f64 / 1e9, events, cpus, syscalls })
    }
}

impl Sink for Stats {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        let first = self.range.map_or(event.ns, |(first, _)| first);
        self.range = Some((first, event.ns));
        self.lanes[event.lane].event(event)
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Lane {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        self.events += 1;
        let Some(kind) = event.kind else { return Ok(()) };
        self.times.take(event.ns, kind);
        match kind {
            Kind::SyscallEnter => self.calls(event.record.a)?.entered += 1,
            Kind::Tick => {
                self.ticks += 1;
                if let Some(last) = self.last_tick.replace(event.ns) {
                    self.intervals.record(event.ns - last)?;
                }
            }
            // The dropped records may have included ticks.
            Kind::Dropped => self.last_tick = None,
            _ => {}
        }
        let mut timed = None;
        self.spans.take(event.ns, kind, &event.record, |step| {
            if let Step::Close { span: Span::Syscall(number), start, complete: true } = step {
                timed = Some((number, event.ns - start));
            }
        });
        match timed {
            Some((number, ns)) => self.calls(number)?.ns.record(ns),
            None => Ok(()),
        }
    }

    fn calls(&mut self, number: u64) -> Result<&mut Calls, Error> {
        use std::collections::btree_map::Entry;
        match self.calls.entry(key(number)) {
            Entry::Occupied(calls) => Ok(calls.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(Calls::new()?)),
        }
    }

    fn figures(&self, kinds: u32) -> Result<CpuFigures, Error> {
        let has = |needed: &[Kind]| needed.iter().all(|kind| kinds & kind.bit() != 0);
        let calls = has(&[Kind::SyscallEnter, Kind::SyscallExit]);
        let idle = has(&[Kind::IdleIn, Kind::IdleOut]);
        let all = self.times.all();
        let share = |known: bool, ns: u64| (known && all != 0).then(|| ns as f64 / all as f64);
        let mut figures = CpuFigures {
            cpu: self.cpu.cpu,
            apic_id: self.cpu.apic_id,
            events: self.events,
            dropped: self.cpu.dropped,
            overwritten: self.cpu.overwritten,
            torn: self.cpu.torn,
            lost: self.cpu.lost,
            ring3: share(calls, self.times.ring3()),
            // If idle time is not recorded, it cannot be distinguished from ring-0 time.
            ring0: share(calls && idle, self.times.ring0()),
            idle: share(idle, self.times.idle()),
            ticks: self.ticks,
            ..CpuFigures::default()
        };
        if let Some((min, max)) = self.intervals.range() {
            let median = self.intervals.quantile(0.5);
            let mut jitter = Sampled::new()?;
            for (interval, count) in self.intervals.iter() {
                jitter.record_n(interval.abs_diff(median), count)?;
            }
            figures.tick_interval_ns = Some(median);
            figures.tick_jitter_p99_ns = Some(jitter.quantile(0.99));
            figures.tick_jitter_max_ns = Some((max - median).max(median - min));
        }
        Ok(figures)
    }
}

fn figures(cpu: Option<u32>, key: u64, calls: &Calls) -> CallFigures {
    let Calls { entered, ns } = calls;
    let quantiles = |(min, max)| Quantiles {
        min,
        median: ns.quantile(0.5),
        p99: ns.quantile(0.99),
        p999: ns.quantile(0.999),
        max,
    };
    let name = syscall_name(key).unwrap_or(NO_SYSCALL);
    CallFigures { cpu, name, entered: *entered, timed: ns.len(), ns: ns.range().map(quantiles) }
}
