//! A CPU's clock and the count of its timer ticks.

use core::cell::Cell;

use kernel_abi::counters::class;

use super::block::PerCpuData;
use crate::arch::cpu::tsc;
use crate::arch::interrupts::timer;
use crate::tick_work::Work;

/// The times of the ticks, and the measurement of their rate.
#[derive(Default)]
pub(in crate::arch) struct TickTimes {
    /// The TSC at the latest tick.
    latest: Cell<u64>,
    /// The nominal number of TSC counts between two ticks.
    interval: Cell<u64>,
    /// The TSC at the first tick of the measurement.
    first: Cell<u64>,
    /// The number of that tick, as [`PerCpuData::ticks`] counts.
    first_tick: Cell<u64>,
}

impl TickTimes {
    /// Handles a tick. Returns the deviation of its distance to the previous tick from the nominal interval.
    #[inline(always)]
    fn tick(&self, now: u64) -> u64 {
        now.wrapping_sub(self.latest.replace(now)).abs_diff(self.interval.get())
    }

    /// Handles the first tick of a measurement, which has this number.
    fn first_tick(&self, now: u64, number: u64) {
        self.latest.set(now);
        self.first.set(now);
        self.first_tick.set(number);
    }

    /// Returns the number of tick intervals measured, and the TSC at the start of the first and at the end of the last.
    /// `number` is the number of the latest tick.
    fn measured(&self, number: u64) -> (u64, u64, u64) {
        (number - self.first_tick.get(), self.first.get(), self.latest.get())
    }
}

impl PerCpuData {
    /// Copies the calibrated clock and the length of a tick to this CPU.
    pub fn set_clock(&self) {
        let timebase = timer::timebase();
        self.clock.set(timebase.clock);
        self.tick_times.interval.set(timebase.tick_tsc);
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

    /// Starts the measurement of the tick rate, at the next tick.
    pub fn measure_ticks(&self) {
        self.tick_work.request(Work::Measure);
    }

    /// Returns the number of tick intervals measured, and their total length in nanoseconds according to the TSC.
    #[must_use]
    pub fn measured_ticks(&self) -> (u64, u64) {
        if self.tick_work.has(Work::Measure) {
            return (0, 0);
        }
        let (intervals, first, latest) = self.tick_times.measured(self.ticks());
        (intervals, self.clock.get().between(first, latest))
    }

    /// Counts a timer tick, and its deviation from the nominal interval. `now` is the current TSC value.
    #[inline(always)]
    pub(in crate::arch) fn count_tick(&self, now: u64) {
        let count = &self.counters.deviations[class(self.tick_times.tick(now))];
        count.set(count.get().wrapping_add(1));
        let ticks = &self.counters.ticks;
        ticks.set(ticks.get().wrapping_add(1));
    }

    /// Counts the first tick of a measurement. It has no deviation, because the tick before it may be any time ago.
    pub(in crate::arch) fn count_first_tick(&self, now: u64) {
        let ticks = self.ticks().wrapping_add(1);
        self.counters.ticks.set(ticks);
        self.tick_times.first_tick(now, ticks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_the_difference_from_the_nominal_interval() {
        let times = TickTimes { interval: Cell::new(100), ..TickTimes::default() };
        times.first_tick(1_000, 1);
        assert_eq!([1_100, 1_195, 1_310, 1_310].map(|now| times.tick(now)), [0, 5, 15, 100]);
        assert_eq!(times.tick(1_309), u64::MAX - 100, "a TSC that steps back deviates by the most");
    }

    #[test]
    fn measurement_counts_from_its_first_tick() {
        let times = TickTimes { interval: Cell::new(100), ..TickTimes::default() };
        times.first_tick(1_000, 1);
        times.tick(1_100);
        assert_eq!(times.measured(2), (1, 1_000, 1_100));
        // A later measurement.
        times.first_tick(5_000, 3);
        assert_eq!(times.measured(3), (0, 5_000, 5_000));
        times.tick(5_120);
        times.tick(5_200);
        assert_eq!(times.measured(5), (2, 5_000, 5_200));
    }
}
