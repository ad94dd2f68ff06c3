//! Waiting for the other CPUs.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

/// A gate that opens once, when the announced number of CPUs has arrived.
///
/// ```text
///   shut ---- arrive() of each CPU, in any order, and announce() of one ----> open
/// ```
///
/// CPUs may arrive before the number is known, since the BSP knows it only after bring-up. What
/// any of them wrote before [`arrive`](Gate::arrive) is visible to each CPU that finds the gate open: `arrive` is a
/// release, all arrivals form one release sequence, [`is_open`](Gate::is_open) acquires its last element.
#[derive(Debug)]
pub struct Gate {
    /// The number of CPUs that must arrive; 0 until it is known.
    expected: AtomicU32,
    arrived: AtomicU32,
}

impl Gate {
    /// A shut gate.
    #[cfg(not(loom))]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "`const`, and not so under loom")]
    pub const fn new() -> Gate {
        Gate { expected: AtomicU32::new(0), arrived: AtomicU32::new(0) }
    }

    /// A shut gate, checked by loom.
    #[cfg(loom)]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "as for the `const` one")]
    pub fn new() -> Gate {
        Gate { expected: AtomicU32::new(0), arrived: AtomicU32::new(0) }
    }

    /// Announces how many CPUs will arrive, at least one. Called once.
    pub fn announce(&self, cpus: u32) {
        // Only the number is published; `arrive` orders data.
        self.expected.store(cpus, Ordering::Relaxed);
    }

    /// Counts this CPU. Called once by each; the caller then idles until [`is_open`](Self::is_open).
    pub fn arrive(&self) {
        self.arrived.fetch_add(1, Ordering::Release);
    }

    /// Returns whether all have arrived. Once true, it stays true.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let expected = self.expected.load(Ordering::Relaxed);
        expected != 0 && self.arrived.load(Ordering::Acquire) >= expected
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn opens_with_the_last_arrival() {
        let gate = Gate::new();
        gate.arrive();
        assert!(!gate.is_open(), "the number is not announced");
        gate.announce(2);
        assert!(!gate.is_open());
        gate.arrive();
        assert!(gate.is_open());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn loom_gate_opens_after_all_arrivals() {
        // Two preemptions find each ordering above if it is made relaxed; without a bound it takes a minute.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let shared = Arc::new((Gate::new(), [(); 3].map(|()| AtomicU32::new(0))));
            let cpu = |me: usize| {
                let shared = shared.clone();
                move || {
                    let (gate, data) = &*shared;
                    data[me].store(1, Ordering::Relaxed);
                    if me == 0 {
                        gate.announce(3);
                    }
                    gate.arrive();
                    // One read stands for the wait: every outcome of every read is modelled.
                    if gate.is_open() {
                        assert!(data.iter().all(|word| word.load(Ordering::Relaxed) == 1));
                    }
                }
            };
            let others = [thread::spawn(cpu(1)), thread::spawn(cpu(2))];
            cpu(0)();
            for other in others {
                other.join().unwrap();
            }
            assert!(shared.0.is_open(), "all have arrived");
        });
    }
}
