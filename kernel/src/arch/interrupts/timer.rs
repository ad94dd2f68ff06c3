//! Calibration. The frequency of the TSC comes from CPUID, or is measured against the clocks that the machine has; see
//! [`choose`](clock_source::choose) for their order. A second clock checks it where there is one. The frequency of the
//! local APIC timer is measured against the TSC.
//!
//! A busy host may deschedule a virtual CPU between any two instructions while the clocks keep counting. So a counter
//! is read between two reads of the TSC, and the fastest of several tries is used.

use core::fmt;
use core::hint::spin_loop;

use spin::Once;

use crate::arch::cpu::tsc;
use crate::arch::interrupts::apic::LocalApic;
use crate::arch::interrupts::reference::Counter;
use crate::clock::{self, CalibrationError, Rate, SAMPLES_MIN, ToNs};
use crate::clock_source::{self, Choice, ClockSource, CpuidClocks};

/// The length of one measurement of the TSC, as a fraction of a second: 1/200 s is 5 ms.
const WINDOWS_PER_SECOND: u64 = 200;
/// The length of one measurement of the APIC timer, in nanoseconds. It may be shorter because the TSC is read faster
/// than other clocks.
const APIC_WINDOW_NS: u64 = 2_000_000;
/// The maximum number of attempts to get a set of valid measurements that agree.
const ATTEMPTS: usize = 20;
/// The maximum number of reads of a clock in one measurement.
const READS_MAX: u32 = 10_000_000;

/// Nanoseconds since boot from the TSC.
#[derive(Clone, Copy, Debug)]
pub struct TscClock {
    boot: u64,
    to_ns: ToNs,
}

impl TscClock {
    /// Creates a clock that reads 0 at the TSC value `boot`.
    #[must_use]
    pub const fn new(boot: u64, rate: Rate) -> TscClock {
        TscClock { boot, to_ns: rate.to_ns() }
    }

    /// Converts a TSC value to nanoseconds since boot. If this CPU's TSC is behind the BSP's, `tsc` may be below
    /// `boot`: the result is then 0.
    #[inline]
    #[must_use]
    pub const fn ns(self, tsc: u64) -> u64 {
        self.to_ns.ns(tsc.saturating_sub(self.boot))
    }

    /// Returns the nanoseconds between two readings of one CPU's TSC, the earlier one first.
    #[must_use]
    pub const fn between(self, from: u64, to: u64) -> u64 {
        self.to_ns.ns(to.wrapping_sub(from))
    }
}

/// The BSP's measurements, which all CPUs use.
#[derive(Clone, Copy, Debug)]
pub struct Timebase {
    /// Nanoseconds since boot from the TSC.
    pub clock: TscClock,
    /// The frequency of the TSC.
    pub tsc: Rate,
    /// The clock that gave the frequency of the TSC, and the clock that checked it.
    pub choice: Choice,
    /// The frequency of the local APIC's timer.
    pub apic_timer: Rate,
    /// APIC timer counts per tick.
    pub apic_ticks: u32,
    /// Ticks per second.
    pub tick_hz: u32,
    /// TSC counts per tick.
    pub tick_tsc: u64,
}

static TIMEBASE: Once<Timebase> = Once::new();

/// Returns the measurements.
///
/// # Panics
/// If called before [`init`].
#[must_use]
pub fn timebase() -> &'static Timebase {
    TIMEBASE.get().expect("`init` must measure the clocks before any use")
}

/// The error if the frequency of a clock cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerError {
    /// The machine has no clock against which the TSC can be measured.
    NoClock,
    /// The TSC cannot be measured against this clock.
    Tsc(ClockSource, CalibrationError),
    /// The APIC timer cannot be measured against the TSC.
    ApicTimer(CalibrationError),
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimerError::NoClock => f.write_str(
                "this machine has no clock to measure the TSC against: no CPUID leaf 0x15, HPET, ACPI \
                 power-management timer or interval timer (PIT)",
            ),
            TimerError::Tsc(source, error) => write!(f, "cannot measure the TSC against {source}: {error}"),
            TimerError::ApicTimer(error) => {
                write!(f, "cannot measure the APIC timer against the TSC: {error}")
            }
        }
    }
}

impl core::error::Error for TimerError {}

/// Measures both frequencies and computes the tick interval. `boot` is the TSC value at the start of the kernel.
///
/// # Errors
/// [`TimerError`], with the error of the last attempt.
pub fn init(
    boot: u64,
    cpuid: &CpuidClocks,
    counters: [Option<Counter>; 2],
    apic: &mut LocalApic,
    tick_hz: u32,
) -> Result<&'static Timebase, TimerError> {
    let rates = measure_tsc(counters);
    let measured = [0, 1].map(|n| counters[n].zip(rates[n]).map(|(counter, rate)| (counter.source(), rate)));
    let count = measured.iter().flatten().count();
    let none = (ClockSource::Nominal, Err(CalibrationError::NoReference));
    let choice = clock_source::choose(cpuid, &measured.map(|rate| rate.unwrap_or(none))[..count]).map_err(
        |failed| failed.map_or(TimerError::NoClock, |(source, error)| TimerError::Tsc(source, error)),
    )?;
    let tsc = choice.used.rate;
    let apic_timer = repeat(|| measure_apic_timer(apic, tsc)).map_err(TimerError::ApicTimer)?;
    apic.stop_ticking();
    // Clamp the count to the range of the 32-bit counter, from 1 up. A 1 Hz tick with a timer above 4.29 GHz would
    // exceed the range.
    let apic_ticks = u32::try_from(apic_timer.per_period(tick_hz)).unwrap_or(u32::MAX).max(1);
    Ok(TIMEBASE.call_once(|| Timebase {
        clock: TscClock::new(boot, tsc),
        tsc,
        choice,
        apic_timer,
        apic_ticks,
        tick_hz,
        tick_tsc: tsc.per_period(tick_hz),
    }))
}

/// Repeats a set of measurements until most values of one set agree, at most [`ATTEMPTS`] times.
fn repeat(mut measure: impl FnMut() -> Result<Rate, CalibrationError>) -> Result<Rate, CalibrationError> {
    let mut result = Err(CalibrationError::NoReference);
    for _ in 0..ATTEMPTS {
        let mut samples = [Rate::from_hz(clock::RATE_MIN_HZ)?; SAMPLES_MIN];
        result = samples
            .iter_mut()
            .try_for_each(|sample| {
                *sample = measure()?;
                Ok(())
            })
            .and_then(|()| clock::pick(&mut samples));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Reads `reference` and the TSC at nearly the same time: returns the fastest of several tries.
fn pair<T>(mut reference: impl FnMut() -> T) -> (T, u64) {
    let mut try_once = || {
        let before = tsc::now();
        let value = reference();
        let gap = tsc::now().wrapping_sub(before);
        (gap, (value, before + gap / 2))
    };
    let mut best = try_once();
    for _ in 0..8 {
        let next = try_once();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}

/// Measures the frequency of the TSC against each of the clocks, both in the same windows. Repeats a set of measurements
/// until it agrees for both clocks, at most [`ATTEMPTS`] times.
fn measure_tsc(counters: [Option<Counter>; 2]) -> [Option<Result<Rate, CalibrationError>>; 2] {
    let mut rates = counters.map(|counter| counter.map(|_| Err(CalibrationError::NoReference)));
    for _ in 0..ATTEMPTS {
        if rates.iter().flatten().all(Result::is_ok) {
            break;
        }
        let windows = [(); SAMPLES_MIN].map(|()| window(counters));
        for (n, rate) in rates.iter_mut().enumerate() {
            if let Some(rate @ Err(_)) = rate {
                *rate = median(windows.map(|window| window[n]));
            }
        }
    }
    rates
}

/// Returns the median of several measurements, or the first error.
fn median(measured: [Option<Result<Rate, CalibrationError>>; SAMPLES_MIN]) -> Result<Rate, CalibrationError> {
    let mut samples = [Rate::from_hz(clock::RATE_MIN_HZ)?; SAMPLES_MIN];
    for (sample, rate) in samples.iter_mut().zip(measured) {
        *sample = rate.unwrap_or(Err(CalibrationError::NoReference))?;
    }
    clock::pick(&mut samples)
}

/// Measures the frequency of the TSC against each of the clocks once, in one window.
fn window(counters: [Option<Counter>; 2]) -> [Option<Result<Rate, CalibrationError>>; 2] {
    let Some(first) = counters[0] else { return [None; 2] };
    counters.into_iter().flatten().for_each(Counter::restart);
    let from = counters.map(|counter| counter.map(|counter| pair(|| counter.read())));
    let start = from[0].map_or(0, |(count, _)| count);
    for _ in 0..READS_MAX {
        // A clock that has wrapped around has advanced far enough.
        if first.elapsed(start, first.read()).is_none_or(|elapsed| elapsed >= first.hz() / WINDOWS_PER_SECOND)
        {
            break;
        }
        spin_loop();
    }
    [0, 1].map(|n| {
        let (counter, (count_from, tsc_from)) = counters[n].zip(from[n])?;
        let (count_to, tsc_to) = pair(|| counter.read());
        let elapsed = counter.elapsed(count_from, count_to).ok_or(CalibrationError::WindowTooLong);
        Some(elapsed.and_then(|elapsed| Rate::measured(tsc_to.wrapping_sub(tsc_from), elapsed, counter.hz())))
    })
}

/// Measures the APIC timer's frequency against the TSC once.
fn measure_apic_timer(apic: &mut LocalApic, tsc: Rate) -> Result<Rate, CalibrationError> {
    apic.start_counting();
    let window = tsc.in_ns(APIC_WINDOW_NS);
    let (count_from, tsc_from) = pair(|| apic.counted());
    while tsc::now().wrapping_sub(tsc_from) < window {
        spin_loop();
    }
    let (count_to, tsc_to) = pair(|| apic.counted());
    Rate::measured(count_to.wrapping_sub(count_from).into(), tsc_to.wrapping_sub(tsc_from), tsc.hz())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_0_until_the_tsc_reaches_its_value_at_boot() {
        let clock = TscClock::new(1_000, Rate::from_hz(1_000_000_000).expect("1 GHz must be a valid rate"));
        assert_eq!([1_000, 1_007, 2_000].map(|tsc| clock.ns(tsc)), [0, 7, 1_000]);
        for behind in [999, 500, 0] {
            assert_eq!(clock.ns(behind), 0);
        }
        assert_eq!(clock.between(10, 510), 500, "intervals do not depend on the value at boot");
    }
}
