//! The work of a timer tick in addition to counting. Each CPU has one word with a bit for each kind of requested work,
//! so that a tick without requested work needs only one test.
//!
//! The CPU's NMI handler also changes the word, and it may run between any two instructions. So each change of the word
//! is one atomic instruction. An NMI that arrives while earlier NMIs are being reported requests its own report:
//!
//! ```text
//!   NMI handler, Nmis::count          tick or idle loop, Nmis::take
//!   1. count the NMI                  1. withdraw the request
//!   2. request a report               2. read the count
//! ```
//!
//! If the NMI arrives before the tick reads the count, this report includes the NMI. Otherwise the NMI handler makes
//! its request after the earlier request was withdrawn, and the next tick finds the new request.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Work that a tick may have to do, each kind a bit of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Work {
    /// Start the measurement of the tick rate. The next tick is the first of the measurement, so it has no distance to
    /// an earlier tick.
    Measure = 1 << 0,
    /// Record a trace event.
    Trace = 1 << 1,
    /// Turn recording on or off periodically ([`crate::alternation`]).
    Alternate = 1 << 2,
    /// Send interrupts to other CPUs, for interrupt stress.
    Stress = 1 << 3,
    /// Fail, to test that the failure is reported.
    Fail = 1 << 4,
    /// Report NMIs.
    ReportNmis = 1 << 5,
    /// Restore the system-call entry point that `floor=` has replaced.
    Floor = 1 << 6,
}

/// The work that the ticks of one CPU have to do.
pub struct TickWork(AtomicU32);

impl TickWork {
    /// Creates the word of a CPU that has had no tick.
    #[cfg(not(loom))]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "except under loom, this must be a `const` function")]
    pub const fn new() -> TickWork {
        TickWork(AtomicU32::new(Work::Measure as u32))
    }

    /// Creates the word of a CPU that has had no tick, with an atomic that is checked by loom.
    #[cfg(loom)]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "except under loom, this must be a `const` function")]
    pub fn new() -> TickWork {
        TickWork(AtomicU32::new(Work::Measure as u32))
    }

    /// Returns whether no work is requested.
    #[must_use]
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Returns whether this work is requested.
    #[must_use]
    pub fn has(&self, work: Work) -> bool {
        self.0.load(Ordering::Relaxed) & work as u32 != 0
    }

    /// Requests this work at every tick until it is withdrawn.
    pub fn request(&self, work: Work) {
        self.0.fetch_or(work as u32, Ordering::Release);
    }

    /// Withdraws the request for this work. Returns whether there was a request.
    pub fn withdraw(&self, work: Work) -> bool {
        self.0.fetch_and(!(work as u32), Ordering::Acquire) & work as u32 != 0
    }

    /// Requests this work, or withdraws the request for it.
    pub fn set(&self, work: Work, is_wanted: bool) {
        if is_wanted {
            self.request(work);
        } else {
            self.withdraw(work);
        }
    }
}

/// The NMIs of one CPU.
pub struct Nmis {
    /// The number of NMIs so far.
    taken: AtomicU64,
    /// The RIP that the last NMI interrupted.
    rip: AtomicU64,
    /// The number of NMIs already reported.
    reported: AtomicU64,
}

impl Nmis {
    /// Creates the state before the first NMI.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "as for `TickWork`")]
    pub fn new() -> Nmis {
        Nmis { taken: AtomicU64::new(0), rip: AtomicU64::new(0), reported: AtomicU64::new(0) }
    }

    /// Counts an NMI, in its handler, and requests its report. Returns the number of NMIs so far.
    pub fn count(&self, rip: u64, work: &TickWork) -> u64 {
        self.rip.store(rip, Ordering::Relaxed);
        let taken = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
        work.request(Work::ReportNmis);
        taken
    }

    /// Returns the number of unreported NMIs and the RIP that the last one interrupted, and marks them as reported.
    pub fn take(&self, work: &TickWork) -> (u64, u64) {
        work.withdraw(Work::ReportNmis);
        let taken = self.taken.load(Ordering::Relaxed);
        let reported = self.reported.load(Ordering::Relaxed);
        self.reported.store(taken, Ordering::Relaxed);
        (taken - reported, self.rip.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ALL: [Work; 7] = [
        Work::Measure,
        Work::Trace,
        Work::Alternate,
        Work::Stress,
        Work::Fail,
        Work::ReportNmis,
        Work::Floor,
    ];

    #[test]
    fn each_kind_of_work_is_requested_and_withdrawn_by_itself() {
        let work = TickWork::new();
        assert!(work.withdraw(Work::Measure), "the first tick starts a measurement");
        assert!(work.is_empty());
        for one in ALL {
            work.set(one, true);
            assert_eq!(ALL.map(|other| work.has(other)), ALL.map(|other| other == one));
            work.set(one, true);
            work.set(one, false);
            assert!(work.is_empty(), "{one:?}");
            assert!(!work.withdraw(one));
        }
        ALL.into_iter().for_each(|one| work.request(one));
        for one in ALL {
            assert!(!work.is_empty() && work.withdraw(one), "{one:?}");
        }
        assert!(work.is_empty());
    }

    #[test]
    fn nmis_are_reported_once() {
        let (work, nmis) = (TickWork::new(), Nmis::new());
        work.withdraw(Work::Measure);
        assert_eq!([(5, 1), (7, 2)].map(|(rip, _)| nmis.count(rip, &work)), [1, 2]);
        assert!(work.has(Work::ReportNmis));
        assert_eq!(nmis.take(&work), (2, 7));
        assert!(work.is_empty());
        assert_eq!(nmis.take(&work), (0, 7));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Models NMIs between any two instructions of a report. Unlike an NMI handler, a second thread may see the stores
    /// out of order, so the test covers more orders than can occur on a CPU.
    #[test]
    fn loom_nmi_during_a_report_is_reported_later() {
        loom::model(|| {
            let state = Arc::new((TickWork::new(), Nmis::new()));
            state.1.count(1, &state.0);
            let handler = thread::spawn({
                let state = state.clone();
                move || [2, 3].map(|rip| state.1.count(rip, &state.0))
            });
            let (first, _) = state.1.take(&state.0);
            handler.join().unwrap();
            let next = if state.0.has(Work::ReportNmis) { state.1.take(&state.0).0 } else { 0 };
            assert_eq!(first + next, 3, "NMIs that no tick reports");
        });
    }

    /// Models an NMI while the CPU requests and withdraws other work.
    #[test]
    fn loom_nmi_during_another_request_loses_neither() {
        loom::model(|| {
            let state = Arc::new((TickWork::new(), Nmis::new()));
            let handler = thread::spawn({
                let state = state.clone();
                move || state.1.count(1, &state.0)
            });
            state.0.request(Work::Stress);
            state.0.withdraw(Work::Measure);
            handler.join().unwrap();
            assert_eq!(
                [Work::Measure, Work::Stress, Work::ReportNmis].map(|one| state.0.has(one)),
                [false, true, true]
            );
        });
    }
}
