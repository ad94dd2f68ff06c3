//! How long the host takes to bring a cache line from one CPU to another.
//!
//! Every `rdtsc` of a guest takes a lock in QEMU that all its CPUs share (`cpu_get_ticks`), so this time is in each event
//! of a trace; it may be six times as long between CPUs that share no cache, and on a virtual machine it changes from one
//! second to the next.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long each measurement takes; the shortest time of all counts, since other processes only make it longer.
const STRETCH: Duration = Duration::from_millis(4);
const STRETCHES: u32 = 5;
/// Says that there will be no more.
const END: u64 = u64::MAX;

/// A word on a cache line of its own.
#[repr(align(128))]
struct Word(AtomicU64);

/// Nanoseconds from one CPU to another, of two that this process may run on; `None` if it may not choose two.
pub fn transfer_ns() -> Option<f64> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let (here, there) = (cpus.next()?, cpus.next()?);
    let word = Word(AtomicU64::new(0));
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let pinned = pin(there);
            // Even if it is not: the other one waits.
            answer(&word.0);
            pinned
        });
        let asking = scope.spawn(|| {
            let pinned = pin(here);
            let shortest = (0..STRETCHES).map(|_| ask(&word.0)).fold(f64::MAX, f64::min);
            word.0.store(END, Ordering::Release);
            pinned.then_some(shortest)
        });
        let shortest = asking.join().ok().flatten();
        shortest.filter(|_| answering.join().is_ok_and(|pinned| pinned))
    })
}

fn pin(cpu: usize) -> bool {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).is_ok()
}

/// Makes each odd number even, until the end.
fn answer(word: &AtomicU64) {
    loop {
        match word.load(Ordering::Acquire) {
            END => return,
            n if n % 2 == 1 => word.store(n + 1, Ordering::Release),
            _ => spin_loop(),
        }
    }
}

/// Makes it odd and waits for the answer, again and again; nanoseconds of one way.
fn ask(word: &AtomicU64) -> f64 {
    let (started, mut rounds) = (Instant::now(), 0);
    while started.elapsed() < STRETCH {
        for _ in 0..64 {
            let n = word.load(Ordering::Acquire) + 1;
            word.store(n, Ordering::Release);
            while word.load(Ordering::Acquire) == n {
                spin_loop();
            }
            rounds += 1;
        }
    }
    started.elapsed().as_nanos() as f64 / f64::from(2 * rounds)
}
