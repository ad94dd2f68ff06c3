//! How many NMIs a CPU has to have taken, of those that were sent to all.

use std::ops::RangeInclusive;

/// NMIs of one CPU. One at most pends: what is sent while another does is one with it.
#[derive(Clone, Copy, Default)]
pub struct Nmis {
    pending: Pending,
    least: u64,
    most: u64,
}

/// Does one pend?
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    No,
    Yes,
    /// The CPU was let go, and may have been stopped again before it took it.
    Perhaps,
}

impl Nmis {
    /// One was sent.
    pub fn sent(&mut self) {
        self.pending = Pending::Yes;
    }

    /// The CPU has executed something, and taken what was pending.
    pub fn has_run(&mut self) {
        self.most += u64::from(self.pending == Pending::Yes);
        self.least += u64::from(self.pending != Pending::No);
        self.pending = Pending::No;
    }

    /// The CPU was let go, together with one that stopped the machine.
    pub fn may_have_run(&mut self) {
        if self.pending == Pending::Yes {
            self.most += 1;
            self.pending = Pending::Perhaps;
        }
    }

    /// So many it has taken.
    pub fn taken(&self) -> RangeInclusive<u64> {
        self.least..=self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_runs_alone_takes_each() {
        let mut nmis = Nmis::default();
        for _ in 0..3 {
            nmis.sent();
            nmis.has_run();
        }
        nmis.has_run();
        assert_eq!(nmis.taken(), 3..=3);
    }

    #[test]
    fn what_is_sent_while_one_pends_is_one_with_it() {
        let mut nmis = Nmis::default();
        nmis.sent();
        nmis.sent();
        nmis.has_run();
        assert_eq!(nmis.taken(), 1..=1);
    }

    #[test]
    fn one_that_may_have_been_taken_is_taken_once_at_the_most() {
        let mut nmis = Nmis::default();
        nmis.sent();
        nmis.may_have_run();
        nmis.may_have_run();
        assert_eq!(nmis.taken(), 0..=1);
        let mut other = nmis;
        nmis.has_run();
        assert_eq!(nmis.taken(), 1..=1);
        other.sent();
        other.has_run();
        assert_eq!(other.taken(), 1..=2);
    }
}
