//! Measures the cost of recording within one run: turns each CPU's trace off and on periodically, and counts the system
//! calls with and without recording.
//!
//! Periods are derived from the clock that all CPUs share, so either all CPUs record or none does. Recording is on in
//! odd periods. Time counts only between two ticks that interrupt ring 3, because before a program's first tick and
//! after its last tick the CPU does work other than system calls.
#![forbid(unsafe_code)]

use core::cell::Cell;

/// A number of system calls on a CPU, and the time that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The number of system calls.
    pub calls: u64,
    /// The time, in nanoseconds.
    pub ns: u64,
}

/// The measurement of one CPU.
#[derive(Debug, Default)]
pub struct Alternation {
    /// Length of a period in nanoseconds; 0 if recording is never switched.
    period: Cell<u64>,
    /// Whether this CPU is recording, and its calls and time at the start of the period.
    since: Cell<Option<(bool, Share)>>,
    /// The totals with recording off and with recording on.
    shares: [Cell<Share>; 2],
}

impl Alternation {
    /// Creates an alternation that never switches recording.
    #[must_use]
    pub const fn off() -> Alternation {
        let nothing = Share { calls: 0, ns: 0 };
        Alternation {
            period: Cell::new(0),
            since: Cell::new(None),
            shares: [Cell::new(nothing), Cell::new(nothing)],
        }
    }

    /// Sets the period in nanoseconds, from now on; 0 means never switch.
    pub fn set_period(&self, ns: u64) {
        self.period.set(ns);
    }

    /// Returns whether recording is never switched.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.period.get() == 0
    }

    /// Handles a tick that interrupted ring 3. `now` is the current time and number of calls. Returns `Some` to turn
    /// recording on or off.
    pub fn tick(&self, now: Share) -> Option<bool> {
        let on = !now.ns.checked_div(self.period.get())?.is_multiple_of(2);
        match self.since.get() {
            Some((same, _)) if same == on => None,
            since => {
                if let Some((was_on, then)) = since {
                    let share = &self.shares[usize::from(was_on)];
                    let Share { calls, ns } = share.get();
                    share.set(Share {
                        calls: calls + (now.calls - then.calls),
                        ns: ns + now.ns.saturating_sub(then.ns),
                    });
                }
                self.since.set(Some((on, now)));
                Some(on)
            }
        }
    }

    /// Discards the time since the last tick in ring 3. Called when a program starts.
    pub fn forget(&self) {
        self.since.set(None);
    }

    /// Returns the totals with recording off and with recording on; `None` if recording is never switched.
    #[must_use]
    pub fn shares(&self) -> Option<[Share; 2]> {
        (!self.is_off()).then(|| self.shares.each_ref().map(Cell::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks at these times. The simulated CPU performs one call per nanosecond with recording on, and two with
    /// recording off.
    #[test]
    fn complete_periods_count_as_on_or_off() {
        let alternation = Alternation::off();
        alternation.set_period(100);
        let mut switched = std::vec::Vec::new();
        let mut calls = 0;
        for ns in (130..=560).step_by(10) {
            calls += if (ns - 10) / 100 % 2 == 1 { 10 } else { 20 };
            switched.extend(alternation.tick(Share { calls, ns }).map(|on| (ns, on)));
        }
        assert_eq!(switched, [(130, true), (200, false), (300, true), (400, false), (500, true)]);
        // The unfinished period does not count.
        let [off, on] = alternation.shares().unwrap();
        assert_eq!((off.ns, on.ns), (200, 170));
        assert!(off.calls.abs_diff(400) <= 20 && on.calls.abs_diff(170) <= 20, "{off:?} {on:?}");
    }

    #[test]
    fn time_between_two_programs_does_not_count() {
        let alternation = Alternation::off();
        alternation.set_period(100);
        assert_eq!(alternation.tick(Share { calls: 1, ns: 110 }), Some(true));
        alternation.forget();
        assert_eq!(alternation.tick(Share { calls: 5, ns: 210 }), Some(false));
        assert_eq!(alternation.tick(Share { calls: 9, ns: 310 }), Some(true));
        assert_eq!(alternation.shares(), Some([Share { calls: 4, ns: 100 }, Share::default()]));
    }

    #[test]
    fn recording_is_not_switched_without_a_period() {
        let alternation = Alternation::off();
        assert_eq!(alternation.tick(Share { calls: 5, ns: 12345 }), None);
        assert_eq!(alternation.shares(), None);
    }
}
