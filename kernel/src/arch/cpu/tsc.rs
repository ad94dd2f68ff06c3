//! The time-stamp counter.

use core::arch::x86_64::_rdtsc;
use core::hint::spin_loop;

use crate::clock::Rate;

/// Reads the TSC. The read is not ordered with other instructions.
#[inline]
#[must_use]
pub fn now() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC, and CR4.TSD does not restrict it in ring 0.
    unsafe { _rdtsc() }
}

/// Waits for a number of nanoseconds, measured with the TSC.
pub fn wait_ns(rate: Rate, ns: u64) {
    let ticks = rate.in_ns(ns);
    let start = now();
    while now().wrapping_sub(start) < ticks {
        spin_loop();
    }
}
