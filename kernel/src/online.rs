//! The bring-up handshake: one word a CPU, on which BSP and AP agree whether the AP takes part in the run.
//!
//! ```text
//!             1             2               3
//!   VACANT ------> OFFERED -----> CLAIMED -------> ONLINE
//!      |              |              |
//!      | 4            | 4            | 4
//!      +--------------+------------> CLOSED
//! ```
//!
//! | | from, to | who, by | ordering | so that |
//! |-|-|-|-|-|
//! | 1 | `VACANT` to `OFFERED` | BSP, [`offer`] | release | who claims sees the slot's contents |
//! | 2 | `OFFERED` to `CLAIMED` | AP, `lock cmpxchg` in the trampoline; [`claim`] is its model | acquire | the AP sees them; only one CPU gets the stack |
//! | 3 | `CLAIMED` to `ONLINE` | AP, [`arrive`] | release | who finds the CPU online sees all that it set up |
//! | 4 | any but `ONLINE` to `CLOSED` | BSP, [`close`] | relaxed; acquire if it finds `ONLINE` | an AP that comes later reads nothing but the state, and parks |
//!
//! 3 and 4 are compare-exchanges on the same word, so exactly one of them happens: either the BSP counts the
//! CPU, or the CPU parks. `ONLINE` and `CLOSED` are final. The slot and the trampoline stay where they are
//! for as long as the machine runs, because an AP may arrive at any time.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

/// The states' values, which the trampoline's assembly uses as well.
pub use ap_trampoline::slot_state::{CLAIMED, CLOSED, OFFERED, ONLINE, VACANT};

/// Transition 1: the slot is filled in, and the CPU that it is for may have it. False if the slot was not
/// vacant, in which case nothing happened.
#[must_use]
pub fn offer(state: &AtomicU32) -> bool {
    const RELEASE: Ordering =
        if cfg!(feature = "mutant-offer-relaxed") { Ordering::Relaxed } else { Ordering::Release };
    state.compare_exchange(VACANT, OFFERED, RELEASE, Ordering::Relaxed).is_ok()
}

/// Transition 2, as the trampoline does it in assembly: true for the one CPU that may use the slot's stack.
/// Every other one parks without touching any.
#[must_use]
pub fn claim(state: &AtomicU32) -> bool {
    if cfg!(feature = "mutant-claim-without-exchange") && state.load(Ordering::Acquire) == OFFERED {
        state.store(CLAIMED, Ordering::Relaxed);
        return true;
    }
    state.compare_exchange(OFFERED, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Transition 3, called by the AP once it has set itself up. False: it came too late, nobody counts on it,
/// and it must park, interrupts off, for ever.
#[must_use]
pub fn arrive(state: &AtomicU32) -> bool {
    const RELEASE: Ordering =
        if cfg!(feature = "mutant-arrive-relaxed") { Ordering::Relaxed } else { Ordering::Release };
    state.compare_exchange(CLAIMED, ONLINE, RELEASE, Ordering::Relaxed).is_ok()
}

/// Has the CPU arrived? If so, what it wrote before [`arrive`] can be read.
#[must_use]
pub fn is_online(state: &AtomicU32) -> bool {
    state.load(Ordering::Acquire) == ONLINE
}

/// What [`close`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The CPU arrived and takes part; what it wrote before [`arrive`] can be read.
    Online,
    /// The CPU never came. Its stack is not in use and never will be.
    Absent,
    /// The CPU claimed the slot and did not get further in time. It runs on the slot's stack, so that the
    /// stack and its per-CPU data must not be used for anything else.
    Late,
}

/// Transition 4: shuts the slot unless the CPU is online. After it, the CPU's part in the run is decided.
#[must_use]
pub fn close(state: &AtomicU32) -> Closed {
    let mut seen = state.load(Ordering::Acquire);
    loop {
        let outcome = match seen {
            ONLINE => return Closed::Online,
            OFFERED if cfg!(feature = "mutant-late-ap-let-in") => return Closed::Absent,
            VACANT | OFFERED => Closed::Absent,
            // Closed before: which of the two it was is forgotten, so say the more careful one.
            _ => Closed::Late,
        };
        match state.compare_exchange(seen, CLOSED, Ordering::Relaxed, Ordering::Acquire) {
            Ok(_) => return outcome,
            Err(now) => seen = now,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_call_in_every_state() {
        // State before; after offer, claim, arrive, close; what close says.
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

    /// What the slot and the CPU's data stand for. Relaxed accesses: only the handshake orders them.
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

        /// An AP from the trampoline to its decision: does it take part?
        fn ap(&self) -> bool {
            if !claim(&self.state) {
                return false;
            }
            assert_eq!(self.from_bsp.load(Ordering::Relaxed), 1, "the slot's contents are seen");
            self.from_ap.store(1, Ordering::Relaxed);
            arrive(&self.state)
        }

        /// The BSP's bounded wait, here of one look, and its decision: does the AP take part?
        fn bsp_decides(&self) -> bool {
            let online = is_online(&self.state);
            if online {
                assert_eq!(self.from_ap.load(Ordering::Relaxed), 1, "is_online: the CPU's data is seen");
            }
            let closed = close(&self.state) == Closed::Online;
            if closed {
                assert_eq!(self.from_ap.load(Ordering::Relaxed), 1, "close: the CPU's data is seen");
            }
            assert!(closed || !online, "who was online stays online");
            closed
        }
    }

    #[test]
    fn loom_bsp_and_two_aps() {
        // Three forced switches find each ordering above made relaxed; without a bound it takes a minute.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let slots = [Slot::new(), Slot::new()];
            let aps = slots.clone().map(|slot| thread::spawn(move || slot.ap()));
            slots.iter().for_each(|slot| slot.bsp_offers());
            let counted = slots.each_ref().map(|slot| slot.bsp_decides());
            let running = aps.map(|ap| ap.join().unwrap());
            assert_eq!(counted, running, "either the BSP counts the CPU or the CPU parks");
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
            assert_eq!(usize::from(counted), running, "one CPU at most has the stack");
        });
    }

    #[test]
    fn loom_late_ap_finds_a_closed_door() {
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
