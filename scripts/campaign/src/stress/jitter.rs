//! Burns the host's CPUs in bursts of random length, so that the guest's CPUs run in other orders than usual.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lines::splitmix64;
use super::seeds::Seed;

/// The longest burst, and the longest pause, in microseconds.
const LONGEST: u64 = 10_000;

/// Threads that burn CPU time until this is dropped.
pub struct Jitter {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Jitter {
    /// One thread a host CPU, two at least.
    pub fn start() -> Jitter {
        let stop = Arc::new(AtomicBool::new(false));
        let count = std::thread::available_parallelism().map_or(2, |count| count.get().max(2));
        let start = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || burn(&stop))
        };
        let threads = (0..count).map(start).collect();
        Jitter { stop, threads }
    }
}

impl Drop for Jitter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that only burns time has nothing to say.
            let _ = thread.join();
        }
    }
}

fn burn(stop: &AtomicBool) {
    let mut random = Seed::random().0;
    while !stop.load(Ordering::Relaxed) {
        random = splitmix64(random);
        let until = Instant::now() + Duration::from_micros(random % LONGEST);
        while Instant::now() < until {
            spin_loop();
        }
        std::thread::sleep(Duration::from_micros((random >> 32) % LONGEST));
    }
}
