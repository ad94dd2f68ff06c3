//! A CPU's clock and the count of its timer ticks.

use kernel_abi::counters::class;

use super::block::PerCpuData;
use crate::arch::cpu::tsc;
use crate::arch::interrupts::timer;

/// The measurement of the tick rate: the TSC at the first and at the latest tick, and the number of ticks.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Measured {
    first: u64,
    latest: u64,
    ticks: u64,
}

impl Measured {
    /// No tick yet.
    pub const NONE: Measured = Measured { first: 0, latest: 0, ticks: 0 };
}

impl PerCpuData {
    /// Copies the calibrated clock to this CPU.
    pub fn set_clock(&self) {
        self.clock.set(timer::timebase().clock);
    }

    /// Starts this CPU's periodic tick.
    pub fn start_ticking(&self) {
        self.with_apic(|apic| apic.start_ticking(timer::timebase().apic_ticks));
    }

    /// Returns the nanoseconds since boot.
    #[must_use]
    pub fn clock_ns(&self) -> u64 {
        // Read the counter first: the compiler can then use the clock's words in memory without loading them.
        let now = tsc::now();
        self.clock.get().ns(now)
    }

    /// Starts the measurement of the tick rate.
    pub fn measure_ticks(&self) {
        self.measured.set(Measured::NONE);
    }

    /// Returns the number of tick intervals measured, and their total length in nanoseconds according to the TSC.
    #[must_use]
    pub fn measured_ticks(&self) -> (u64, u64) {
        let Measured { first, latest, ticks } = self.measured.get();
        (ticks.saturating_sub(1), self.clock.get().between(first, latest))
    }

    /// Counts a timer tick. `now` is the current TSC value; `interval` is the nominal number of TSC counts between two
    /// ticks.
    #[inline]
    pub(in crate::arch) fn count_tick(&self, now: u64, interval: u64) {
        let Measured { first, latest, ticks } = self.measured.get();
        let first = if ticks == 0 { now } else { first };
        if ticks != 0 {
            let actual = now.wrapping_sub(latest);
            let count = &self.counters.deviations[class(actual.abs_diff(interval))];
            count.set(count.get().wrapping_add(1));
        }
        self.measured.set(Measured { first, latest: now, ticks: ticks.wrapping_add(1) });
        let count = &self.counters.ticks;
        count.set(count.get().wrapping_add(1));
    }
}
