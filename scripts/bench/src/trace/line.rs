//! Measures how long the host takes to transfer a cache line from one CPU to another.
//!
//! In a guest, every `rdtsc` takes a lock in QEMU that all its CPUs share (`cpu_get_ticks`), so the cost of each trace
//! event includes such a transfer. The transfer may take six times as long between CPUs that share no cache. On a
//! virtual machine it changes from one second to the next.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Duration of the measurement, and the time limit if other processes keep the two threads from running simultaneously.
const MEASURED: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Number of round trips per sample. It is small, so that a thread is descheduled during only a few samples; the result
/// is the median of all samples.
const ROUNDS: u32 = 64;
/// The minimum number of samples.
const SAMPLES_MIN: usize = 256;
/// The value that ends the exchange.
const END: u64 = u64::MAX;

/// A word in a cache line of its own.
#[repr(align(128))]
struct Word(AtomicU64);

/// Returns the nanoseconds that a transfer between two CPUs takes. Returns `None` if this process may not use two CPUs,
/// or if they are too busy.
pub fn transfer_ns() -> Option<f64> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let (here, there) = (cpus.next()?, cpus.next()?);
    let word = Word(AtomicU64::new(0));
    std::thread::scope(|scope| {
        let answering = Builder::new().spawn_scoped(scope, || {
            let pinned = pin(there);
            // Do this even if pinning failed, as the other thread waits for answers.
            answer(&word.0);
            pinned
        });
        let answering = answering.ok()?;
        let asking = Builder::new().spawn_scoped(scope, || if pin(here) { ask(&word.0) } else { None });
        let median = asking.ok().and_then(|asking| asking.join().ok().flatten());
        word.0.store(END, Ordering::Release);
        median.filter(|_| answering.join().is_ok_and(|pinned| pinned))
    })
}

fn pin(cpu: usize) -> bool {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).is_ok()
}

/// Answers each odd number with the next even one, until it receives `END`.
fn answer(word: &AtomicU64) {
    loop {
        match word.load(Ordering::Acquire) {
            END => return,
            n if n % 2 == 1 => word.store(n + 1, Ordering::Release),
            _ => spin_loop(),
        }
    }
}

/// Repeatedly stores an odd number and waits for the answer. Returns the median nanoseconds of one direction.
fn ask(word: &AtomicU64) -> Option<f64> {
    let (started, mut times) = (Instant::now(), Vec::new());
    loop {
        let elapsed = started.elapsed();
        if elapsed > MEASURED.1 || (elapsed > MEASURED.0 && times.len() >= SAMPLES_MIN) {
            break;
        }
        let before = Instant::now();
        for _ in 0..ROUNDS {
            let n = word.load(Ordering::Acquire) + 1;
            word.store(n, Ordering::Release);
            while word.load(Ordering::Acquire) == n {
                spin_loop();
            }
        }
        times.push(before.elapsed().as_nanos());
    }
    times.sort_unstable();
    (times.len() >= SAMPLES_MIN).then(|| times[times.len() / 2] as f64 / f64::from(2 * ROUNDS))
}
