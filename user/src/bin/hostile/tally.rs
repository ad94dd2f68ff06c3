//! Per-CPU probe counters in the shared page, which outlives the copies of the program.

use core::sync::atomic::{AtomicU64, Ordering};

use user::shared_page;

use crate::class::Class;
use crate::console::SHARED_WORDS;

/// The number of CPUs for which the page has room for counters.
pub const CPUS_MAX: u64 = (512 - SHARED_WORDS as u64) / Class::COUNT as u64;

/// A CPU's counters.
#[derive(Clone, Copy)]
pub struct Tally {
    cpu: usize,
}

impl Tally {
    /// Returns the counters of this CPU, whose index must be below [`CPUS_MAX`].
    pub fn of(cpu: u64) -> Tally {
        Tally { cpu: cpu as usize }
    }

    fn word(self, class: Class) -> &'static AtomicU64 {
        shared_page().word(self.cpu * Class::COUNT + class as usize)
    }

    /// Counts one probe.
    pub fn count(self, class: Class) {
        // Only this CPU writes the word, so the increment need not be atomic.
        let word = self.word(class);
        word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Returns the number of probes in a class.
    pub fn get(self, class: Class) -> u64 {
        self.word(class).load(Ordering::Relaxed)
    }

    /// Returns the number of probes in all classes.
    pub fn sum(self) -> u64 {
        Class::ALL.iter().fold(0, |sum, (class, _)| sum.wrapping_add(self.get(*class)))
    }
}
