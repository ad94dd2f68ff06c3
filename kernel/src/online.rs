//! The bring-up handshake: one word per CPU, by which BSP and AP agree whether the AP takes part in the run.
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
//! | 1 | `VACANT` to `OFFERED` | BSP, [`offer`] | release | the CPU that claims the slot sees its contents |
//! | 2 | `OFFERED` to `CLAIMED` | AP, `lock cmpxchg` in the trampoline; [`claim`] is its model | acquire | the AP sees them; only one CPU gets the stack |
//! | 3 | `CLAIMED` to `ONLINE` | AP, [`arrive`] | release | a CPU that finds it online sees all that it set up |
//! | 4 | any but `ONLINE` to `CLOSED` | BSP, [`close`] | relaxed; acquire if it finds `ONLINE` | an AP that comes later reads nothing but the state, and parks |
//!
//! 3 and 4 are compare-exchanges on the same word, so exactly one of them happens: either the BSP counts the
//! CPU, or the CPU parks. `ONLINE` and `CLOSED` are final. The slot and the trampoline are never
//! freed, because an AP may arrive at any time.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

/// The values of the states, which the trampoline's assembly uses too.
pub use ap_trampoline::slot_state::{CLAIMED, CLOSED, OFFERED, ONLINE, VACANT};

/// Transition 1: the slot is filled in, and its CPU may claim it. Returns false if the slot was not
/// vacant; then nothing is changed.
#[must_use]
pub fn offer(state: &AtomicU32) -> bool {
    state.compare_exchange(VACANT, OFFERED, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Transition 2, as the trampoline does it in assembly: true for the one CPU that may use the slot's stack.
/// Every other CPU parks without using any stack.
#[must_use]
pub fn claim(state: &AtomicU32) -> bool {
    state.compare_exchange(OFFERED, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Transition 3, called by the AP once it has initialised itself. False: it is too late and not part of the run,
/// so it must park, interrupts off, permanently.
#[must_use]
pub fn arrive(state: &AtomicU32) -> bool {
    state.compare_exchange(CLAIMED, ONLINE, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Returns whether the CPU has arrived. If so, what it wrote before [`arrive`] is visible.
#[must_use]
pub fn is_online(state: &AtomicU32) -> bool {
    state.load(Ordering::Acquire) == ONLINE
}

/// The result of [`close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The CPU arrived and takes part; what it wrote before [`arrive`] is visible.
    Online,
    /// The CPU did not claim the slot. Its stack is not in use and never will be.
    Absent,
    /// The CPU claimed the slot but did not arrive in time. It runs on the slot's stack, so the
    /// stack and its per-CPU data must not be used for anything else.
    Late,
}

/// Transition 4: closes the slot unless the CPU is online. After it, the CPU's part in the run is decided.
#[must_use]
pub fn close(state: &AtomicU32) -> Closed {
    let mut seen = state.load(Ordering::Acquire);
    loop {
        let outcome = match seen {
            ONLINE => return Closed::Online,
            VACANT | OFFERED => Closed::Absent,
            // Closed before: which of the two states it had is not known any more, so return the safer one.
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
    fn every_transition_in_every_state() {
        // State before; state after offer, claim, arrive, close; result of close.
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

    /// Stand-ins for the slot's contents and the CPU's data. Relaxed accesses: only the handshake orders them.
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

        /// An AP from the trampoline to its decision. Returns whether it takes part.
        fn ap(&self) -> bool {
            if !claim(&self.state) {
                return false;
            }
            assert_eq!(self.from_bsp.load(Ordering::Relaxed), 1, "the slot's contents are seen");
            self.from_ap.store(1, Ordering::Relaxed);
            arrive(&self.state)
        }

        /// The BSP's bounded wait, here of one read, and its decision. Returns whether the AP takes part.
        fn bsp_decides(&self) -> bool {
            let online = is_online(&self.state);
            if online {
                assert_eq!(self.from_ap.load(Ordering::Relaxed), 1, "is_online: the CPU's data is seen");
            }
            let closed = close(&self.state) == Closed::Online;
            if closed {
                assert_eq!(self.from_ap.load(Ordering::Relaxed), 1, "close: the CPU's data is seen");
            }
            assert!(closed || !online, "an online CPU stays online");
            closed
        }
    }

    #[test]
    fn loom_bsp_and_two_aps() {
        // Three preemptions find each ordering above if it is made relaxed; without a bound it takes a minute.
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
