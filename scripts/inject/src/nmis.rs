//! Computes how many NMIs a CPU must have taken, given that NMIs are sent to all CPUs.

use std::ops::RangeInclusive;

/// The NMIs of one CPU. At most one is pending: an NMI sent while another is pending merges with it.
#[derive(Clone, Copy, Default)]
pub struct Nmis {
    pending: Pending,
    least: u64,
    most: u64,
}

/// Whether an NMI is pending.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    No,
    Yes,
    /// Unknown: the CPU was resumed, but may have been stopped again before it took the NMI.
    Maybe,
}

impl Nmis {
    /// Records that an NMI was sent.
    pub fn sent(&mut self) {
        self.pending = Pending::Yes;
    }

    /// Records that the host has made the CPU enter its NMI handler.
    pub fn entered(&mut self) {
        self.least += 1;
        self.most += 1;
    }

    /// Records that the CPU has executed at least one instruction, and therefore taken a pending NMI.
    pub fn has_run(&mut self) {
        self.most += u64::from(self.pending == Pending::Yes);
        self.least += u64::from(self.pending != Pending::No);
        self.pending = Pending::No;
    }

    /// Records that the CPU was resumed, but another CPU stopped the machine.
    pub fn may_have_run(&mut self) {
        if self.pending == Pending::Yes {
            self.most += 1;
            self.pending = Pending::Maybe;
        }
    }

    /// Returns the possible numbers of NMIs that the CPU has taken.
    pub fn taken(&self) -> RangeInclusive<u64> {
        self.least..=self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumed_cpu_takes_each_nmi() {
        let mut nmis = Nmis::default();
        for _ in 0..3 {
            nmis.sent();
            nmis.has_run();
        }
        nmis.has_run();
        assert_eq!(nmis.taken(), 3..=3);
    }

    #[test]
    fn nmis_merge_while_one_is_pending() {
        let mut nmis = Nmis::default();
        nmis.sent();
        nmis.sent();
        nmis.has_run();
        assert_eq!(nmis.taken(), 1..=1);
    }

    #[test]
    fn entered_handler_counts_in_addition_to_a_pending_nmi() {
        let mut nmis = Nmis::default();
        nmis.sent();
        nmis.entered();
        nmis.has_run();
        assert_eq!(nmis.taken(), 2..=2);
    }

    #[test]
    fn possibly_taken_nmi_counts_at_most_once() {
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
