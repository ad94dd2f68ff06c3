//! Reads the counters and latest trace events of each CPU from the memory of a running guest, and computes rates.

use std::time::Duration;

use machine::report::sum;
use trace::capture::{GuestRam, Rings};
use trace::shape::Described;

use super::samples::Samples;
use crate::counters::{CounterPages, Snapshot};

/// Minimum time between two searches: the longer of this duration and this multiple of the last search's duration.
const SEARCH_PAUSE: (Duration, u32) = (Duration::from_millis(5), 4);
/// Maximum time between two polls.
const POLL_MAX: Duration = Duration::from_millis(100);
/// Time over which a rate is averaged. Over shorter times, console output makes the rate fluctuate.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// A CPU's counts and latest event at the last poll.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuStatus {
    /// System calls so far.
    pub calls: u64,
    /// System calls per second over the last second.
    pub rate: f64,
    /// Timer ticks so far.
    pub ticks: u64,
    /// The CPU's latest trace event; `None` if tracing is off.
    pub event: Option<String>,
}

/// A guest's memory, and the counters and trace rings found in it.
pub struct Live {
    ram: GuestRam,
    counters: Option<CounterPages>,
    rings: Option<Rings>,
    next_search: Duration,
    next_poll: Duration,
    samples: Samples,
    last: Vec<Snapshot>,
}

impl Live {
    /// Creates the view of a guest that has not started yet.
    pub fn new(ram: GuestRam) -> Live {
        Live {
            ram,
            counters: None,
            rings: None,
            next_search: Duration::ZERO,
            next_poll: Duration::ZERO,
            samples: Samples::default(),
            last: Vec::new(),
        }
    }

    /// Samples the counters if the interval has passed. `time` is the time since the guest's start. Until the counters
    /// are found, searches for them: the kernel publishes them after CPU bring-up.
    pub fn poll(&mut self, time: Duration) {
        if time < self.next_poll {
            return;
        }
        self.next_poll = time + self.samples.interval().min(POLL_MAX);
        if self.counters.is_none() && time >= self.next_search {
            let started = std::time::Instant::now();
            self.search();
            self.next_search = time + SEARCH_PAUSE.0.max(started.elapsed() * SEARCH_PAUSE.1);
        }
        self.sample(time);
    }

    /// Takes the last sample, after the guest has exited. The memory still holds the final values.
    pub fn poll_final(&mut self, time: Duration) {
        if self.counters.is_none() {
            self.search();
        }
        self.sample(time);
    }

    /// Returns each CPU's counters at the last poll, by dense index.
    pub fn counters(&self) -> &[Snapshot] {
        &self.last
    }

    /// Returns the status of each CPU at the last poll, by dense index; empty until the counters are found.
    pub fn status(&self) -> Vec<CpuStatus> {
        let events = self.events();
        let rates = self.samples.rates(RATE_WINDOW);
        let status = |(n, counters): (usize, &Snapshot)| CpuStatus {
            calls: sum(counters.calls),
            rate: rates.get(n).copied().unwrap_or(0.0),
            ticks: counters.ticks,
            event: events.get(n).cloned().flatten(),
        };
        self.last.iter().enumerate().map(status).collect()
    }

    /// Returns the samples, each CPU's counters at the last poll, and the counters' location.
    pub fn finish(self) -> (Samples, Vec<Snapshot>, Option<CounterPages>) {
        (self.samples, self.last, self.counters)
    }

    /// Searches for the counters and the trace rings. After an error the boot continues with an empty status.
    fn search(&mut self) {
        self.counters = CounterPages::find(&self.ram).ok().flatten();
        if self.counters.is_some() {
            // The kernel publishes the rings, if any, before the counters.
            self.rings = Rings::find(&self.ram).ok();
        }
    }

    /// Reads the counters and adds a sample.
    fn sample(&mut self, time: Duration) {
        let Some(counters) = &self.counters else { return };
        if let Ok(counted) = counters.read(&self.ram) {
            self.samples.push(time, counted.iter().map(|cpu| sum(cpu.calls)).collect());
            self.last = counted;
        }
    }

    /// Returns the latest event of each CPU that has a ring.
    fn events(&self) -> Vec<Option<String>> {
        let rings = self.rings.iter().flat_map(Rings::rings);
        let last = |ring: trace::capture::Ring| Some(Described(&ring.last(&self.ram).ok()??).to_string());
        rings.map(last).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::tests::{guest, put};

    #[test]
    fn poll_reads_counts_and_rates() {
        let mut live = Live::new(guest());
        live.poll(Duration::ZERO);
        let now = live.status();
        assert_eq!((now.len(), now[0].calls, now[0].ticks, now[1].ticks), (2, 1007, 55, 56));
        assert_eq!((now[0].rate, &now[0].event), (0.0, &None));
        // Calls of CPU 0, half a second later.
        put(&live.ram, 0x8100, &[2000]);
        live.poll(Duration::from_millis(1));
        assert_eq!(live.status()[0].calls, 1007, "the interval has not passed");
        live.poll(Duration::from_millis(500));
        let now = live.status();
        assert_eq!((now[0].calls, now[0].rate, now[1].rate), (2007, 2000.0, 0.0));
        put(&live.ram, 0x8100, &[2001]);
        live.poll_final(Duration::from_millis(501));
        let (_, last, pages) = live.finish();
        assert_eq!((last[0].calls[0], pages.map(|pages| pages.tick_hz)), (2001, Some(100)));
    }
}
