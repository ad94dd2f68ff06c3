//! Looks into the memory of a guest that runs: what its CPUs have counted, how fast, and what they did last.

use std::time::Duration;

use trace::capture::{GuestRam, Rings};
use trace::shape::Described;

use super::samples::Samples;
use crate::counters::{CounterPages, Snapshot};

/// How long to wait at least between two searches, and how many times as long as a search took.
const SEARCH_PAUSE: (Duration, u32) = (Duration::from_millis(5), 4);
/// The time between two looks at most.
const REFRESH: Duration = Duration::from_millis(100);
/// The stretch of time that a rate is of. The console's pace makes shorter ones jump.
const RATE_OVER: Duration = Duration::from_secs(1);

/// How far a CPU is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Now {
    /// System calls so far.
    pub calls: u64,
    /// System calls a second of late.
    pub rate: f64,
    /// Timer ticks so far.
    pub ticks: u64,
    /// Its latest event, if it records any.
    pub event: Option<String>,
}

/// The guest's memory, and what was found in it.
pub struct Live {
    ram: GuestRam,
    counters: Option<CounterPages>,
    rings: Option<Rings>,
    next_search: Duration,
    next_look: Duration,
    samples: Samples,
    last: Vec<Snapshot>,
}

impl Live {
    /// Of a guest that is about to run.
    pub fn new(ram: GuestRam) -> Live {
        Live {
            ram,
            counters: None,
            rings: None,
            next_search: Duration::ZERO,
            next_look: Duration::ZERO,
            samples: Samples::default(),
            last: Vec::new(),
        }
    }

    /// To be called as often as one likes while the guest runs, with the time since its start. Looks when it is time
    /// to, and searches with patience: the kernel makes its counters known only when all its CPUs have come.
    pub fn look(&mut self, time: Duration) {
        if time < self.next_look {
            return;
        }
        self.next_look = time + self.samples.every().min(REFRESH);
        if self.counters.is_none() && time >= self.next_search {
            let started = std::time::Instant::now();
            self.search();
            self.next_search = time + SEARCH_PAUSE.0.max(started.elapsed() * SEARCH_PAUSE.1);
        }
        self.sample(time);
    }

    /// The last look, when the guest is gone: its memory is as it left it.
    pub fn last_look(&mut self, time: Duration) {
        if self.counters.is_none() {
            self.search();
        }
        self.sample(time);
    }

    /// What each CPU had counted at the last look, by dense index.
    pub fn counters(&self) -> &[Snapshot] {
        &self.last
    }

    /// What each CPU has done so far, by dense index; nothing before the counters are found.
    pub fn now(&self) -> Vec<Now> {
        let events = self.events();
        let rates = self.samples.rates(RATE_OVER);
        let now = |(n, counters): (usize, &Snapshot)| Now {
            calls: counters.calls.iter().sum(),
            rate: rates.get(n).copied().unwrap_or(0.0),
            ticks: counters.ticks,
            event: events.get(n).cloned().flatten(),
        };
        self.last.iter().enumerate().map(now).collect()
    }

    /// How the counts of calls grew, and what each CPU had counted at the last look.
    pub fn finish(self) -> (Samples, Vec<Snapshot>, Option<CounterPages>) {
        (self.samples, self.last, self.counters)
    }

    /// Memory that cannot be read is no reason to end a boot: there is less to see of it.
    fn search(&mut self) {
        self.counters = CounterPages::find(&self.ram).ok().flatten();
        if self.counters.is_some() {
            // The rings are there before the counters, or never.
            self.rings = Rings::find(&self.ram).ok();
        }
    }

    fn sample(&mut self, time: Duration) {
        let Some(counters) = &self.counters else { return };
        if let Ok(now) = counters.read(&self.ram) {
            self.samples.push(time, now.iter().map(|cpu| cpu.calls.iter().sum()).collect());
            self.last = now;
        }
    }

    /// The latest event of each CPU in the list.
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
    fn counts_and_rates_follow_the_guest() {
        let mut live = Live::new(guest());
        live.look(Duration::ZERO);
        let now = live.now();
        assert_eq!((now.len(), now[0].calls, now[0].ticks, now[1].ticks), (2, 1007, 55, 56));
        assert_eq!((now[0].rate, &now[0].event), (0.0, &None));
        // Calls of CPU 0, half a second later.
        put(&live.ram, 0x8100, &[2000]);
        live.look(Duration::from_millis(1));
        assert_eq!(live.now()[0].calls, 1007, "too early for another look");
        live.look(Duration::from_millis(500));
        let now = live.now();
        assert_eq!((now[0].calls, now[0].rate, now[1].rate), (2007, 2000.0, 0.0));
        put(&live.ram, 0x8100, &[2001]);
        live.last_look(Duration::from_millis(501));
        let (_, last, pages) = live.finish();
        assert_eq!((last[0].calls[0], pages.map(|pages| pages.tick_hz)), (2001, Some(100)));
    }
}
