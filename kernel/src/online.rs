//! The bring-up handshake. Each AP has a slot with a state word, through which BSP and AP agree whether the AP takes
//! part in the run.
//!
//! ```text
//!             1             2               3
//!   VACANT ------> OFFERED -----> CLAIMED -------> ONLINE
//!      |              |              |
//!      | 4            | 4            | 4
//!      +--------------+------------> CLOSED
//! ```
//!
//! | | from, to | actor, function | ordering | purpose |
//! |-|-|-|-|-|
//! | 1 | `VACANT` to `OFFERED` | BSP, [`offer`] | release | the CPU that claims the slot sees its contents |
//! | 2 | `OFFERED` to `CLAIMED` | AP, `lock cmpxchg` in the trampoline; [`claim`] is its model | acquire | the AP sees the slot's contents; only one CPU gets the stack |
//! | 3 | `CLAIMED` to `ONLINE` | AP, [`arrive`] | release | a CPU that finds the AP online sees everything that the AP set up |
//! | 4 | any but `ONLINE` to `CLOSED` | BSP, [`close`] | relaxed; acquire if it finds `ONLINE` | a later AP reads only the state, and parks |
//!
//! Transitions 3 and 4 are compare-exchanges on the same word, so exactly one of them happens: either the BSP counts
//! the CPU as online, or the CPU parks. `ONLINE` and `CLOSED` are final. The slot and the trampoline are never freed,
//! because an AP may arrive at any time.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

use ap_trampoline::Report;

use crate::features::FeatureSet;

/// The state values, which the trampoline's assembly also uses.
pub use ap_trampoline::slot_state::{CLAIMED, CLOSED, OFFERED, ONLINE, VACANT};

/// Transition 1: offers a filled-in slot, which its CPU may then claim. Returns false and changes nothing if the slot
/// was not vacant.
#[must_use]
pub fn offer(state: &AtomicU32) -> bool {
    state.compare_exchange(VACANT, OFFERED, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Transition 2, which the trampoline performs in assembly. Returns true to the one CPU that may use the slot's stack.
/// Every other CPU parks without using a stack.
#[must_use]
pub fn claim(state: &AtomicU32) -> bool {
    state.compare_exchange(OFFERED, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Transition 3, called by the AP once it has initialised itself. Returns false if the AP is too late to take part in
/// the run. It must then park permanently with interrupts off.
#[must_use]
pub fn arrive(state: &AtomicU32) -> bool {
    state.compare_exchange(CLAIMED, ONLINE, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Returns whether the CPU has arrived. If so, everything that the CPU wrote before [`arrive`] is visible to the
/// caller.
#[must_use]
pub fn is_online(state: &AtomicU32) -> bool {
    state.load(Ordering::Acquire) == ONLINE
}

/// The result of [`close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The CPU arrived and takes part in the run. Everything that it wrote before [`arrive`] is visible to the caller.
    Online,
    /// The CPU did not claim the slot. Its stack is not in use and never will be.
    Absent,
    /// The CPU claimed the slot but did not arrive in time. It may be running on the slot's stack, so neither that
    /// stack nor the CPU's per-CPU data may be reused.
    Late,
}

/// Transition 4: closes the slot unless the CPU is online. Afterwards it is decided whether the CPU takes part in the
/// run.
#[must_use]
pub fn close(state: &AtomicU32) -> Closed {
    let mut seen = state.load(Ordering::Acquire);
    loop {
        let outcome = match seen {
            ONLINE => return Closed::Online,
            VACANT | OFFERED => Closed::Absent,
            // The slot was already closed, and its state before that is unknown. Return the safer result.
            _ => Closed::Late,
        };
        match state.compare_exchange(seen, CLOSED, Ordering::Relaxed, Ordering::Acquire) {
            Ok(_) => return outcome,
            Err(now) => seen = now,
        }
    }
}

/// Returns the features that the CPU of a slot lacks, if the contents of its row in the report prove it. `claimed`:
/// whether the slot has been claimed. `listed`: the ids of all slots. The row proves nothing in two cases:
///
/// - Two slots share the row.
/// - The slot's state does not fit the report. A CPU that lacks a feature of [`FeatureSet::REQUIRED`] parks before it
///   claims its slot, and one that lacks a feature of [`FeatureSet::IN_64_BIT_MODE`] parks afterwards. The trampoline
///   selects the row by the id in CPUID, which may be the APIC id of another CPU.
#[must_use]
pub fn missing_features(
    row: FeatureSet,
    apic_id: u32,
    claimed: bool,
    listed: impl Iterator<Item = u32>,
) -> Option<FeatureSet> {
    let checked = if claimed { FeatureSet::IN_64_BIT_MODE } else { FeatureSet::REQUIRED };
    let lacking = checked.missing_from(!row.basic, !row.extended)?;
    let sharing = listed.filter(|&id| Report::index(id) == Report::index(apic_id)).count();
    (sharing == 1).then_some(lacking)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn report_row_is_used_only_if_exactly_one_cpu_can_have_written_it() {
        let none = FeatureSet { basic: 0, extended: 0 };
        let sse2 = FeatureSet { basic: 1 << 26, extended: 0 };
        let syscall = FeatureSet { basic: 0, extended: 1 << 11 };
        let both = FeatureSet { basic: 1 << 26, extended: 1 << 11 };
        // Each row: the report's row, whether the slot is claimed, the ids of all slots, the result for id 1.
        let table: [(FeatureSet, bool, &[u32], Option<FeatureSet>); 9] = [
            (none, false, &[1, 2], None),
            (sse2, false, &[1, 2], Some(sse2)),
            (sse2, true, &[1, 2], None),
            (syscall, false, &[1, 2], None),
            (syscall, true, &[1, 2], Some(syscall)),
            (both, true, &[1, 2], Some(syscall)),
            (sse2, false, &[1, 256, 258], Some(sse2)),
            (sse2, false, &[1, 257], None),
            (syscall, true, &[1, 2, 0x101], None),
        ];
        for (row, claimed, listed, expected) in table {
            let ids = || listed.iter().copied();
            assert_eq!(missing_features(row, 1, claimed, ids()), expected, "{row:?}, {claimed}, {listed:?}");
        }
        assert_eq!(missing_features(sse2, 257, false, [1, 257].into_iter()), None);
    }

    #[test]
    fn every_transition_in_every_state() {
        // Each row: the state before; the state after offer, claim, arrive and close; the result of close.
        let table = [
            (VACANT, [OFFERED, VACANT, VACANT, CLOSED], Closed::Absent),
            (OFFERED, [OFFERED, CLAIMED, OFFERED, CLOSED], Closed::Absent),
            (CLAIMED, [CLAIMED, CLAIMED, ONLINE, CLOSED], Closed::Late),
            (ONLINE, [ONLINE, ONLINE, ONLINE, ONLINE], Closed::Online),
            (CLOSED, [CLOSED, CLOSED, CLOSED, CLOSED], Closed::Late),
        ];
        for (before, after, closed) in table {
            let calls: [fn(&AtomicU32) -> bool; 3] = [offer, claim, arrive];
            for (call, after) in calls.into_iter().zip(after) {
                let state = AtomicU32::new(before);
                assert_eq!(call(&state), before != after, "from {before}");
                assert_eq!(state.load(Ordering::Relaxed), after, "from {before}");
            }
            let state = AtomicU32::new(before);
            assert_eq!(is_online(&state), before == ONLINE);
            assert_eq!(close(&state), closed);
            assert_eq!(state.load(Ordering::Relaxed), after[3]);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Stand-ins for the slot's contents and the CPU's data. All accesses are relaxed, so that only the handshake
    /// orders them.
    struct Slot {
        state: AtomicU32,
        from_bsp: AtomicU32,
        from_ap: AtomicU32,
    }

    impl Slot {
        fn new() -> Arc<Slot> {
            let zero = || AtomicU32::new(0);
            Arc::new(Slot { state: AtomicU32::new(VACANT), from_bsp: zero(), from_ap: zero() })
        }

        fn bsp_offers(&self) {
            self.from_bsp.store(1, Ordering::Relaxed);
            assert!(offer(&self.state));
        }

        /// Models an AP from the trampoline to the end of the handshake. Returns whether the AP takes part.
        fn ap(&self) -> bool {
            if !claim(&self.state) {
                return false;
            }
            assert_eq!(self.from_bsp.load(Ordering::Relaxed), 1, "the AP must see the slot's contents");
            self.from_ap.store(1, Ordering::Relaxed);
            arrive(&self.state)
        }

        /// Models the BSP's bounded wait (here a single read) and the closing of the slot. Returns whether the AP takes
        /// part.
        fn bsp_decides(&self) -> bool {
            let online = is_online(&self.state);
            if online {
                assert_eq!(
                    self.from_ap.load(Ordering::Relaxed),
                    1,
                    "after is_online, the BSP must see the CPU's data"
                );
            }
            let closed = close(&self.state) == Closed::Online;
            if closed {
                assert_eq!(
                    self.from_ap.load(Ordering::Relaxed),
                    1,
                    "after close, the BSP must see the CPU's data"
                );
            }
            assert!(closed || !online, "an online CPU must stay online");
            closed
        }
    }

    #[test]
    fn loom_bsp_and_two_aps() {
        // Three preemptions are enough for loom to fail if any ordering above is relaxed. Without a bound the test
        // takes a minute.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let slots = [Slot::new(), Slot::new()];
            let aps = slots.clone().map(|slot| thread::spawn(move || slot.ap()));
            slots.iter().for_each(|slot| slot.bsp_offers());
            let counted = slots.each_ref().map(|slot| slot.bsp_decides());
            let running = aps.map(|ap| ap.join().unwrap());
            assert_eq!(counted, running, "the BSP must count exactly the CPUs that run");
        });
    }

    #[test]
    fn loom_two_aps_contend_for_one_slot() {
        loom::model(|| {
            let slot = Slot::new();
            slot.bsp_offers();
            let aps = [slot.clone(), slot.clone()].map(|slot| thread::spawn(move || slot.ap()));
            let counted = slot.bsp_decides();
            let running = aps.map(|ap| ap.join().unwrap()).into_iter().filter(|&runs| runs).count();
            assert_eq!(
                usize::from(counted),
                running,
                "exactly one CPU may run if the BSP counts it, else none"
            );
        });
    }

    #[test]
    fn loom_late_ap_parks() {
        loom::model(|| {
            let slot = Slot::new();
            slot.bsp_offers();
            let claimed = thread::spawn({
                let slot = slot.clone();
                move || claim(&slot.state)
            });
            let closed = close(&slot.state);
            let claimed = claimed.join().unwrap();
            assert_eq!(closed, if claimed { Closed::Late } else { Closed::Absent });
            assert!(!slot.ap() && !arrive(&slot.state));
        });
    }
}
