//! Loads the host's CPUs in bursts of random length, to vary how the guest's CPUs interleave.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use machine::error::Error;

use super::lines::splitmix64;
use super::seeds::Seed;

/// Maximum length of a burst and of a pause, in microseconds.
const BURST_MAX_US: u64 = 10_000;

/// Threads that load the host's CPUs. They stop on drop.
pub struct Jitter {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Jitter {
    /// Starts one thread for each host CPU, but at least two.
    ///
    /// # Errors
    /// If the host's limits do not allow that many threads.
    pub fn start() -> Result<Jitter, Error> {
        let mut jitter = Jitter { stop: Arc::default(), threads: Vec::new() };
        let count = std::thread::available_parallelism().map_or(2, |count| count.get().max(2));
        for _ in 0..count {
            let stop = Arc::clone(&jitter.stop);
            let thread = Builder::new().spawn(move || burn(&stop));
            let thread = thread.map_err(|error| Error::File("cannot start a thread".to_owned(), error))?;
            jitter.threads.push(thread);
        }
        Ok(jitter)
    }
}

impl Drop for Jitter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The thread has no result.
            let _ = thread.join();
        }
    }
}

/// Alternates busy loops and sleeps of random length until `stop` is set.
fn burn(stop: &AtomicBool) {
    let mut random = Seed::random().0;
    while !stop.load(Ordering::Relaxed) {
        random = splitmix64(random);
        let until = Instant::now() + Duration::from_micros(random % BURST_MAX_US);
        while Instant::now() < until {
            spin_loop();
        }
        std::thread::sleep(Duration::from_micros((random >> 32) % BURST_MAX_US));
    }
}
