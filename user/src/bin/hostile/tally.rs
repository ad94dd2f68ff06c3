//! The counters of all CPUs' probes, in the shared page: they outlive the copies.

use core::sync::atomic::{AtomicU64, Ordering};

use user::shared_page;

use crate::class::Class;
use crate::console::SHARED_WORDS;

/// The most CPUs that have room for their counters.
pub const CPUS_MAX: u64 = (512 - SHARED_WORDS as u64) / Class::COUNT as u64;

/// A CPU's counters.
#[derive(Clone, Copy)]
pub struct Tally {
    cpu: usize,
}

impl Tally {
    /// Those of this CPU, which is below [`CPUS_MAX`].
    pub fn of(cpu: u64) -> Tally {
        Tally { cpu: cpu as usize }
    }

    fn word(self, class: Class) -> &'static AtomicU64 {
        shared_page().word(self.cpu * Class::COUNT + class as usize)
    }

    /// One more.
    pub fn count(self, class: Class) {
        // This CPU's alone, so that nothing is lost by not being one step.
        let word = self.word(class);
        word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How many of a class.
    pub fn get(self, class: Class) -> u64 {
        self.word(class).load(Ordering::Relaxed)
    }

    /// How many of all.
    pub fn sum(self) -> u64 {
        Class::ALL.iter().fold(0, |sum, (class, _)| sum.wrapping_add(self.get(*class)))
    }
}
