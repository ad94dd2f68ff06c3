//! Turns at the console for the CPUs whose programs print, in round-robin order.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

/// A lock that is handed from its holder to the next CPU that waits for it.
///
/// ```text
///            take()                     release(), a CPU waits: the next one after the holder
///   free ----------------> held by A --------------------------------------------------------> held by B
///        <----------------
///         release(), no CPU waits
/// ```
///
/// So a CPU waits for at most one turn of each other CPU, and possibly for one additional turn, if another CPU took the
/// lock while it was free. A waiting CPU may halt: the CPU that passes the lock on wakes it.
#[derive(Debug)]
pub struct Turns {
    /// The CPU that holds the lock, or [`FREE`].
    holder: AtomicU32,
    /// The number of waiting CPUs.
    waiting: AtomicU32,
}

/// The value of `holder` if no CPU holds the lock.
const FREE: u32 = u32::MAX;

impl Turns {
    /// Creates a free lock.
    #[cfg(not(loom))]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "except under loom, this must be a `const` function")]
    pub const fn new() -> Turns {
        Turns { holder: AtomicU32::new(FREE), waiting: AtomicU32::new(0) }
    }

    /// Creates a free lock whose atomics are checked by loom.
    #[cfg(loom)]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "except under loom, this must be a `const` function")]
    pub fn new() -> Turns {
        Turns { holder: AtomicU32::new(FREE), waiting: AtomicU32::new(0) }
    }

    /// Waits until CPU `me` holds the lock. `waits` is the flag by which this CPU announces that it waits. While the
    /// CPU waits, it calls `pause` repeatedly; `pause` may halt until [`release`](Self::release) wakes the CPU.
    ///
    /// No wake-up is lost: this CPU sets its flag and then reads the holder; `release` frees the lock and then reads
    /// the flags. The fences order the two accesses on each side, so at least one side sees the other's write.
    pub fn take(&self, me: u32, waits: &AtomicBool, mut pause: impl FnMut()) {
        if self.try_take(me) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        loop {
            waits.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.holder.load(Ordering::Acquire) == me || self.try_take(me) {
                break;
            }
            pause();
        }
        waits.store(false, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends the turn of CPU `me`. `others` returns the other CPUs with their flags, starting after `me`; `wake` sends a
    /// CPU an interrupt.
    pub fn release<'a, I: Iterator<Item = (u32, &'a AtomicBool)>>(
        &self,
        me: u32,
        others: impl Fn() -> I,
        wake: impl Fn(u32),
    ) {
        loop {
            if self.waiting.load(Ordering::Relaxed) > 0
                && let Some((next, waits)) = others().find(|(_, waits)| waits.load(Ordering::Relaxed))
            {
                waits.store(false, Ordering::Relaxed);
                self.holder.store(next, Ordering::Release);
                return wake(next);
            }
            self.holder.store(FREE, Ordering::Release);
            fence(Ordering::SeqCst);
            let new = self.waiting.load(Ordering::Relaxed) > 0
                && others().any(|(_, waits)| waits.load(Ordering::Relaxed));
            // If another CPU takes the lock now, that CPU checks the flags when it releases the lock.
            if !new || !self.try_take(me) {
                return;
            }
        }
    }

    fn try_take(&self, me: u32) -> bool {
        self.holder.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::cell::RefCell;
    use std::vec::Vec;

    use super::*;

    /// Returns the numbers of the other CPUs in round-robin order.
    fn after(me: u32, count: u32) -> impl Iterator<Item = u32> {
        (me + 1..count).chain(0..me)
    }

    /// CPU 2 holds the lock, and CPUs 3, 0 and 1 wait. Each gets the lock once before any gets it twice, although each
    /// waits again immediately after it has released the lock.
    #[test]
    fn waiting_cpus_take_turns() {
        let turns = Turns::new();
        let flags = [const { AtomicBool::new(false) }; 4];
        turns.take(2, &flags[2], || panic!("the CPU waited for a free lock"));
        turns.waiting.store(3, Ordering::Relaxed);
        [3, 0, 1].into_iter().for_each(|cpu: usize| flags[cpu].store(true, Ordering::Relaxed));
        let woken = RefCell::new(Vec::new());
        let mut me = 2;
        for _ in 0..8 {
            let others = || after(me, 4).map(|cpu| (cpu, &flags[cpu as usize]));
            turns.release(me, others, |cpu| woken.borrow_mut().push(cpu));
            assert!(!turns.try_take(me), "the lock is free although CPUs wait");
            flags[me as usize].store(true, Ordering::Relaxed);
            me = *woken.borrow().last().unwrap();
        }
        assert_eq!(*woken.borrow(), [3, 0, 1, 2, 3, 0, 1, 2]);
    }

    #[test]
    fn turn_is_free_if_no_cpu_waits() {
        let turns = Turns::new();
        let flags = [const { AtomicBool::new(false) }; 2];
        for me in [0, 1, 1, 0] {
            turns.take(me, &flags[me as usize], || panic!("the CPU waited for a free lock"));
            let others = || after(me, 2).map(|cpu| (cpu, &flags[cpu as usize]));
            turns.release(me, others, |_| panic!("a CPU was woken that did not wait"));
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Notify};
    use loom::thread;

    use super::*;

    /// A waiting CPU halts until it is woken. A lost wake-up causes a deadlock, which loom reports.
    #[test]
    fn loom_turns_are_exclusive_and_no_wake_up_is_lost() {
        struct Shared {
            turns: Turns,
            flags: [AtomicBool; 3],
            interrupts: [Notify; 3],
            lines: UnsafeCell<u32>,
        }
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let shared = Arc::new(Shared {
                turns: Turns::new(),
                flags: [(); 3].map(|()| AtomicBool::new(false)),
                interrupts: [(); 3].map(|()| Notify::new()),
                lines: UnsafeCell::new(0),
            });
            let cpu = |me: u32| {
                let shared = shared.clone();
                move || {
                    let Shared { turns, flags, interrupts, lines } = &*shared;
                    turns.take(me, &flags[me as usize], || interrupts[me as usize].wait());
                    lines.with_mut(|_| ());
                    let others = || (me + 1..3).chain(0..me).map(|cpu| (cpu, &flags[cpu as usize]));
                    turns.release(me, others, |cpu| interrupts[cpu as usize].notify());
                }
            };
            let others = [thread::spawn(cpu(1)), thread::spawn(cpu(2))];
            cpu(0)();
            for other in others {
                other.join().unwrap();
            }
        });
    }
}
