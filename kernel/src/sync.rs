//! Synchronisation between CPUs: a gate at which CPUs wait for each other.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

/// A gate that opens once, when the announced number of CPUs has arrived.
///
/// ```text
///   shut ---- arrive() by each CPU and announce() by one, in any order ----> open
/// ```
///
/// CPUs may arrive before the number is announced, because the BSP knows it only after bring-up. Everything that a CPU
/// wrote before [`arrive`](Gate::arrive) is visible to each CPU that finds the gate open: `arrive` is a release, all
/// arrivals form one release sequence, and [`is_open`](Gate::is_open) acquires the last element of that sequence.
#[derive(Debug)]
pub struct Gate {
    /// The number of CPUs that must arrive; 0 until it is announced.
    expected: AtomicU32,
    arrived: AtomicU32,
}

impl Gate {
    /// Creates a shut gate.
    #[cfg(not(loom))]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "except under loom, this must be a `const` function")]
    pub const fn new() -> Gate {
        Gate { expected: AtomicU32::new(0), arrived: AtomicU32::new(0) }
    }

    /// Creates a shut gate whose atomics are checked by loom.
    #[cfg(loom)]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "except under loom, this must be a `const` function")]
    pub fn new() -> Gate {
        Gate { expected: AtomicU32::new(0), arrived: AtomicU32::new(0) }
    }

    /// Announces the number of CPUs that will arrive, which must be at least one. Called once.
    pub fn announce(&self, cpus: u32) {
        // Relaxed is enough: this store publishes only the number, and `arrive` orders all other data.
        self.expected.store(cpus, Ordering::Relaxed);
    }

    /// Counts this CPU as arrived. Each CPU calls this once and then idles until [`is_open`](Self::is_open).
    pub fn arrive(&self) {
        self.arrived.fetch_add(1, Ordering::Release);
    }

    /// Returns whether all CPUs have arrived. Once true, the result stays true.
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
    fn gate_opens_with_the_last_arrival() {
        let gate = Gate::new();
        gate.arrive();
        assert!(!gate.is_open(), "the gate must not open before the number is announced");
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
        // Two preemptions are enough for loom to fail if any ordering above is relaxed. Without a bound the test takes
        // a minute.
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
                    // A single read models the wait, because loom explores every value that the read may return.
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
            assert!(shared.0.is_open(), "the gate must be open after all arrivals");
        });
    }
}
