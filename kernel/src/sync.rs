//! Synchronisation between CPUs: a gate at which CPUs wait for each other, and turns that limit how many CPUs take a step
//! at the same time.
#![forbid(unsafe_code)]

use core::ops::Range;

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

/// Lets CPUs take a step in the order of their indices, at most [`Stagger::WIDTH`] of them at the same time.
///
/// A CPU takes locks during the step. A host that runs more virtual CPUs than it has cores often deschedules the CPU
/// that holds a lock, and each CPU that waits for the lock then spins for its complete time slice. So the number of
/// CPUs that may wait must not grow with the number of CPUs.
///
/// CPU n takes the step once n + 1 - `WIDTH` CPUs have finished it. So at most `WIDTH` of the CPUs that have begun the
/// step have not finished it. The counter does not order other memory accesses.
#[derive(Debug)]
pub struct Stagger {
    finished: AtomicU32,
}

impl Stagger {
    /// The largest number of CPUs that take the step at the same time.
    pub const WIDTH: u32 = 4;

    /// Creates the turns before the first step.
    #[cfg(not(loom))]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "except under loom, this must be a `const` function")]
    pub const fn new() -> Stagger {
        Stagger { finished: AtomicU32::new(0) }
    }

    /// Creates the turns before the first step, with an atomic that is checked by loom.
    #[cfg(loom)]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "except under loom, this must be a `const` function")]
    pub fn new() -> Stagger {
        Stagger { finished: AtomicU32::new(0) }
    }

    /// Returns whether the CPU with this index may take the step. Once true, the result stays true.
    #[must_use]
    pub fn is_turn(&self, cpu: u32) -> bool {
        cpu < self.finished.load(Ordering::Relaxed).saturating_add(Self::WIDTH)
    }

    /// Ends this CPU's step. Returns the index of the CPU whose turn it is now, which the caller must wake if there is
    /// such a CPU. Each CPU calls this once.
    #[must_use]
    pub fn finish(&self) -> u32 {
        self.finished.fetch_add(1, Ordering::Relaxed).saturating_add(Self::WIDTH)
    }
}

/// Returns the CPUs that a CPU wakes if many CPUs are woken in a tree, as a range of their indices. CPU 0 is the root,
/// and `count` is the number of CPUs. Each CPU except the root is woken by exactly one other CPU.
#[must_use]
pub fn woken_by(cpu: usize, count: usize) -> Range<usize> {
    /// The number of CPUs that each CPU wakes.
    const FAN_OUT: usize = 4;
    let first = (cpu * FAN_OUT + 1).min(count);
    first..(first + FAN_OUT).min(count)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// 9 CPUs finish in an order that differs from that of their indices.
    #[test]
    fn each_finished_step_gives_the_turn_to_the_next_cpu() {
        const WIDTH: u32 = Stagger::WIDTH;
        let stagger = Stagger::new();
        let mut running: Vec<u32> = (0..WIDTH).collect();
        for finished in 0..9 {
            let may_run = (0..20).filter(|&cpu| stagger.is_turn(cpu)).count() as u32;
            assert_eq!(may_run, finished + WIDTH, "{finished} have finished");
            assert_eq!(running.len() as u32, WIDTH, "CPUs at the same time");
            running.remove(finished as usize % 3);
            let next = stagger.finish();
            assert_eq!(next, finished + WIDTH, "the next CPU");
            assert!(stagger.is_turn(next) && !stagger.is_turn(next + 1));
            running.push(next);
        }
    }

    #[test]
    fn tree_wakes_each_cpu_once() {
        for count in [1, 2, 5, 6, 17, 1024] {
            let mut woken: Vec<usize> = (0..count).flat_map(|cpu| woken_by(cpu, count)).collect();
            woken.sort_unstable();
            assert!(woken.into_iter().eq(1..count), "{count} CPUs");
            assert!((0..count).all(|cpu| woken_by(cpu, count).all(|next| next > cpu)), "no cycle");
        }
    }

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
