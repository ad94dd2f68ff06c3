//! Counts the output bytes of a CPU that were dropped because the UART did not become ready in time.

use core::sync::atomic::{AtomicU64, Ordering};

/// The counts of dropped bytes. Only the owning CPU writes them.
#[derive(Default)]
pub struct Dropped {
    bytes: AtomicU64,
    reported: AtomicU64,
}

impl Dropped {
    /// Adds to the number of dropped bytes.
    pub(super) fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the number of bytes dropped so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of dropped bytes that have not been reported.
    pub(super) fn unreported(&self) -> u64 {
        self.bytes() - self.reported.load(Ordering::Relaxed)
    }

    /// Records that this many more bytes were reported.
    pub(super) fn set_reported(&self, bytes: u64) {
        self.reported.fetch_add(bytes, Ordering::Relaxed);
    }
}
