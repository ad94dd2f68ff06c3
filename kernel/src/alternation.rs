//! What recording costs, measured within one run: a CPU's trace is switched off and on in turn, and the system calls of
//! both kinds of time are counted.
//!
//! Time is cut into periods by the clock that all CPUs share, so that all of them record or none does; odd periods are
//! recorded. A period counts only from a tick in ring 3 to another one: before a program's first, and behind its last,
//! there are other things than calls.
#![forbid(unsafe_code)]

use core::cell::Cell;

/// Calls that a CPU made, and the time in which it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// System calls.
    pub calls: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// One CPU's account.
#[derive(Debug, Default)]
pub struct Alternation {
    /// Nanoseconds of a period; 0: nothing is switched.
    period: Cell<u64>,
    /// Whether this CPU records now, and what it had done when that began.
    since: Cell<Option<(bool, Share)>>,
    /// With recording off, and on.
    shares: [Cell<Share>; 2],
}

impl Alternation {
    /// Nothing is switched.
    #[must_use]
    pub const fn off() -> Alternation {
        let nothing = Share { calls: 0, ns: 0 };
        Alternation {
            period: Cell::new(0),
            since: Cell::new(None),
            shares: [Cell::new(nothing), Cell::new(nothing)],
        }
    }

    /// Switches with this period from now on; 0: not at all.
    pub fn set_period(&self, ns: u64) {
        self.period.set(ns);
    }

    /// Is nothing switched?
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.period.get() == 0
    }

    /// A tick in ring 3, of a CPU that has made so many calls at this time: has recording to be switched on or off?
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

    /// A program starts: what went on since the last tick in ring 3 is not calls.
    pub fn forget(&self) {
        self.since.set(None);
    }

    /// With recording off, and on; `None` if nothing was switched.
    #[must_use]
    pub fn shares(&self) -> Option<[Share; 2]> {
        (!self.is_off()).then(|| self.shares.each_ref().map(Cell::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks at these times, with as many calls as nanoseconds have passed, twice as many while it is off.
    #[test]
    fn whole_periods_are_counted_where_they_belong() {
        let alternation = Alternation::off();
        alternation.set_period(100);
        let mut switched = std::vec::Vec::new();
        let mut calls = 0;
        for ns in (130..=560).step_by(10) {
            calls += if (ns - 10) / 100 % 2 == 1 { 10 } else { 20 };
            switched.extend(alternation.tick(Share { calls, ns }).map(|on| (ns, on)));
        }
        assert_eq!(switched, [(130, true), (200, false), (300, true), (400, false), (500, true)]);
        // The period that was not over does not count.
        let [off, on] = alternation.shares().unwrap();
        assert_eq!((off.ns, on.ns), (200, 170));
        assert!(off.calls.abs_diff(400) <= 20 && on.calls.abs_diff(170) <= 20, "{off:?} {on:?}");
    }

    #[test]
    fn the_time_between_two_programs_does_not_count() {
        let alternation = Alternation::off();
        alternation.set_period(100);
        assert_eq!(alternation.tick(Share { calls: 1, ns: 110 }), Some(true));
        alternation.forget();
        assert_eq!(alternation.tick(Share { calls: 5, ns: 210 }), Some(false));
        assert_eq!(alternation.tick(Share { calls: 9, ns: 310 }), Some(true));
        assert_eq!(alternation.shares(), Some([Share { calls: 4, ns: 100 }, Share::default()]));
    }

    #[test]
    fn without_a_period_nothing_is_switched() {
        let alternation = Alternation::off();
        assert_eq!(alternation.tick(Share { calls: 5, ns: 12345 }), None);
        assert_eq!(alternation.shares(), None);
    }
}
