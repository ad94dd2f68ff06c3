//! How much of a CPU's output was dropped, because its UART did not get ready in time.

use core::sync::atomic::{AtomicU64, Ordering};

/// The bytes that were dropped. Only the owner writes.
#[derive(Default)]
pub struct Dropped {
    bytes: AtomicU64,
    reported: AtomicU64,
}

impl Dropped {
    /// Adds bytes that were dropped.
    pub(super) fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the number of bytes dropped so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns how many of them have not been reported.
    pub(super) fn unreported(&self) -> u64 {
        self.bytes() - self.reported.load(Ordering::Relaxed)
    }

    /// Stores that so many more were reported.
    pub(super) fn set_reported(&self, bytes: u64) {
        self.reported.fetch_add(bytes, Ordering::Relaxed);
    }
}
