//! Loom models of the handshake.

use std::vec::Vec;

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
        let counted = close(&self.state) == Closed::Online;
        if counted {
            assert_eq!(
                self.from_ap.load(Ordering::Relaxed),
                1,
                "after close, the BSP must see the CPU's data"
            );
        }
        assert!(counted || !online, "an online CPU must stay online");
        counted
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
            "exactly one CPU must run if the BSP counts the slot as online, otherwise none"
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

/// A slot with the data that the CPU of each generation uses. All accesses to the data are relaxed, so that only the
/// handshake orders them.
struct Area {
    state: AtomicU32,
    /// The generation that the BSP has prepared, and which the AP also writes at its end.
    from_bsp: AtomicU32,
    from_ap: AtomicU32,
}

impl Area {
    fn new() -> Arc<Area> {
        let zero = || AtomicU32::new(0);
        Arc::new(Area { state: AtomicU32::new(VACANT), from_bsp: zero(), from_ap: zero() })
    }

    /// Models the BSP: it clears the area, and offers the slot to the CPU's next generation.
    fn bsp_offers(&self, generation: u32) {
        self.from_bsp.store(generation, Ordering::Relaxed);
        assert!(offer(&self.state));
    }

    /// Models an AP that a start-up IPI starts, until it has left or parks in the trampoline. Returns the generation
    /// whose slot it took.
    fn ap(&self) -> Option<u32> {
        if !claim(&self.state) {
            return None;
        }
        let generation = self.from_bsp.load(Ordering::Relaxed);
        if !arrive(&self.state) {
            return None;
        }
        while !is_leaving(&self.state) {
            thread::yield_now();
        }
        let still = self.from_bsp.load(Ordering::Relaxed);
        assert_eq!(still, generation, "the area was reused before the CPU had left");
        self.from_ap.store(generation, Ordering::Relaxed);
        assert!(park(&self.state));
        Some(generation)
    }

    /// Models the BSP's wait for a CPU that it has asked to leave.
    fn bsp_takes_down(&self, generation: u32) {
        while !request_leave(&self.state) {
            thread::yield_now();
        }
        while !reclaim(&self.state) {
            thread::yield_now();
        }
        let seen = self.from_ap.load(Ordering::Relaxed);
        assert_eq!(seen, generation, "after reclaim, the BSP must see the CPU's data");
    }
}

#[test]
fn loom_area_is_reused_only_after_the_cpu_has_left() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let area = Area::new();
        area.bsp_offers(1);
        // Each thread is the CPU after a start-up IPI, which may start it at any time, even while the area is reused.
        let aps = [area.clone(), area.clone()].map(|area| thread::spawn(move || area.ap()));
        area.bsp_takes_down(1);
        // The slot is VACANT here: a CPU that arrives while the BSP writes the area parks.
        area.bsp_offers(2);
        let closed = close(&area.state);
        if closed == Closed::Online {
            area.bsp_takes_down(2);
        }
        let mut taken: Vec<_> = aps.into_iter().filter_map(|ap| ap.join().unwrap()).collect();
        taken.sort_unstable();
        let expected: &[u32] = if closed == Closed::Online { &[1, 2] } else { &[1] };
        assert_eq!(taken, expected, "each generation that the BSP counts has exactly one CPU");
    });
}

#[test]
fn loom_cpu_leaves_or_declines() {
    loom::model(|| {
        let area = Area::new();
        area.bsp_offers(1);
        assert!(claim(&area.state) && arrive(&area.state));
        let ap = thread::spawn({
            let area = area.clone();
            move || decline(&area.state)
        });
        assert!(request_leave(&area.state));
        let reclaimed = reclaim(&area.state);
        assert!(!reclaimed, "a CPU that declines still uses its data");
        let declined = ap.join().unwrap();
        assert_eq!(declined, !is_leaving(&area.state));
    });
}
