//! Calibration. The frequency of the TSC comes from CPUID, or is measured against the clocks that the machine has; see
//! [`choose`](clock_source::choose) for their order. If there is a second clock, it checks this frequency. The
//! frequency of the local APIC timer is measured against the TSC.
//!
//! All clocks are read four times, at equal distances over 8 ms, while the APs wait for the 10 ms that a CPU needs
//! after INIT. Between two readings the BSP does other work. If the three windows between the readings do not agree,
//! the BSP measures again, and does no other work during that measurement.
//!
//! A busy host may deschedule a virtual CPU between any two instructions while the clocks keep counting. So a counter
//! is read between two reads of the TSC, and the fastest of several tries is used.

use core::array;
use core::hint::spin_loop;

use crate::arch::cpu::tsc;
use crate::arch::interrupts::apic::LocalApic;
use crate::arch::interrupts::reference::Counter;
use crate::arch::interrupts::timer::{self, Timebase, TimerError};
use crate::clock::{self, CalibrationError, Rate, SAMPLES_MIN};
use crate::clock_source::{self, ClockSource, CpuidClocks};
use crate::windows::{self, Window};

/// The length of one repeated measurement of the TSC, as a fraction of a second: 1/200 s is 5 ms.
const WINDOWS_PER_SECOND: u64 = 200;
/// The length of one repeated measurement of the APIC timer, in nanoseconds. It may be shorter because the TSC is read
/// faster than other clocks.
const APIC_WINDOW_NS: u64 = 2_000_000;
/// The maximum number of attempts to get a set of valid measurements that agree.
const ATTEMPTS: usize = 20;
/// The maximum number of reads of a clock in one measurement.
const READS_MAX: u32 = 10_000_000;

/// A measurement of all clocks.
pub struct Calibration {
    /// The TSC at the start of the kernel.
    boot: u64,
    tick_hz: u32,
    cpuid: CpuidClocks,
    counters: [Option<Counter>; 2],
    /// The rate of the TSC according to CPUID. It decides when a reading is due if there is no other clock.
    nominal: Option<Rate>,
    readings: [Reading; SAMPLES_MIN + 1],
    /// The number of readings so far.
    taken: usize,
}

/// One reading of all clocks.
#[derive(Clone, Copy, Default)]
struct Reading {
    /// The count of each of the two clocks, and the TSC at that time.
    clocks: [(u32, u64); 2],
    /// How far each of the two clocks has advanced since the previous reading. `None` if it may have wrapped around.
    elapsed: [Option<u64>; 2],
    /// The count of the APIC timer, and the TSC at that time.
    apic: (u32, u64),
}

impl Calibration {
    /// Prepares a measurement. `boot` is the TSC value at the start of the kernel.
    ///
    /// # Errors
    /// [`TimerError::NoClock`].
    pub fn new(
        boot: u64,
        cpuid: CpuidClocks,
        counters: [Option<Counter>; 2],
        tick_hz: u32,
    ) -> Result<Calibration, TimerError> {
        let nominal = clock_source::choose(&cpuid, &[]).ok().map(|choice| choice.used.rate);
        if counters[0].is_none() && nominal.is_none() {
            return Err(TimerError::NoClock);
        }
        let readings = [Reading::default(); SAMPLES_MIN + 1];
        Ok(Calibration { boot, tick_hz, cpuid, counters, nominal, readings, taken: 0 })
    }

    /// Starts the clocks that must be started, and takes the first reading.
    pub fn start(&mut self, apic: &mut LocalApic) {
        self.counters.into_iter().flatten().for_each(Counter::restart);
        apic.start_counting();
        self.take(apic);
    }

    /// Takes the next reading if it is due. Returns whether all readings are taken. Call it often: a reading that is late
    /// only makes its window longer.
    pub fn poll(&mut self, apic: &LocalApic) -> bool {
        if !self.is_complete() && self.is_due() {
            self.take(apic);
        }
        self.is_complete()
    }

    fn is_complete(&self) -> bool {
        self.taken == self.readings.len()
    }

    /// Returns whether the next reading is due. A clock that has wrapped around has advanced far enough.
    fn is_due(&self) -> bool {
        let (first, due) = (&self.readings[0], windows::due_ns(self.taken));
        match (self.counters[0], self.nominal) {
            (Some(counter), _) => counter
                .elapsed(first.clocks[0].0, counter.read())
                .is_none_or(|elapsed| elapsed >= counter.hz() * due / 1_000_000_000),
            (None, Some(rate)) => tsc::now().wrapping_sub(first.apic.1) >= rate.in_ns(due),
            (None, None) => true,
        }
    }

    /// Reads all clocks.
    fn take(&mut self, apic: &LocalApic) {
        let previous = self.readings[self.taken.saturating_sub(1)];
        let mut reading = Reading { apic: pair(|| apic.counted()), ..Reading::default() };
        for (n, counter) in self.counters.iter().enumerate() {
            if let Some(counter) = counter {
                reading.clocks[n] = pair(|| counter.read());
                // Calculate this now, because the clock may wrap around before a later calculation.
                reading.elapsed[n] = counter.elapsed(previous.clocks[n].0, reading.clocks[n].0);
            }
        }
        self.readings[self.taken] = reading;
        self.taken += 1;
    }

    /// Waits until all readings are taken, computes both frequencies, and publishes them. Repeats a measurement whose
    /// readings do not agree.
    ///
    /// # Errors
    /// [`TimerError`], with the error of the last attempt.
    pub fn finish(&mut self, apic: &mut LocalApic) -> Result<&'static Timebase, TimerError> {
        for _ in 0..READS_MAX {
            if self.poll(apic) {
                break;
            }
            spin_loop();
        }
        // Readings are left only if the first clock has stopped.
        while !self.is_complete() {
            self.take(apic);
        }
        let counters = self.counters;
        let rates = [0, 1].map(|n| counters[n].map(|counter| self.tsc_rate(n, counter)));
        let rates = measure_tsc_again(counters, rates);
        let measured =
            [0, 1].map(|n| counters[n].zip(rates[n]).map(|(counter, rate)| (counter.source(), rate)));
        let count = measured.iter().flatten().count();
        let none = (ClockSource::Nominal, Err(CalibrationError::NoReference));
        let choice = clock_source::choose(&self.cpuid, &measured.map(|rate| rate.unwrap_or(none))[..count])
            .map_err(|failed| {
            failed.map_or(TimerError::NoClock, |(source, error)| TimerError::Tsc(source, error))
        })?;
        let tsc = choice.used.rate;
        let apic_timer = self.apic_rate(tsc).or_else(|_| repeat(|| measure_apic_timer(apic, tsc)));
        apic.stop_ticking();
        Ok(timer::publish(self.boot, choice, apic_timer.map_err(TimerError::ApicTimer)?, self.tick_hz))
    }

    /// Returns the frequency of the TSC according to the clock with this number.
    fn tsc_rate(&self, n: usize, counter: Counter) -> Result<Rate, CalibrationError> {
        let mut windows = [Window::default(); SAMPLES_MIN];
        for (window, [from, to]) in windows.iter_mut().zip(self.pairs()) {
            let counted = to.clocks[n].1.wrapping_sub(from.clocks[n].1);
            let reference = to.elapsed[n].ok_or(CalibrationError::WindowTooLong)?;
            *window = Window { counted, reference };
        }
        windows::rate(&windows, counter.hz())
    }

    /// Returns the frequency of the APIC timer for a frequency of the TSC.
    fn apic_rate(&self, tsc: Rate) -> Result<Rate, CalibrationError> {
        let windows = self.pairs().map(|[from, to]| Window {
            counted: to.apic.0.wrapping_sub(from.apic.0).into(),
            reference: to.apic.1.wrapping_sub(from.apic.1),
        });
        windows::rate(&windows, tsc.hz())
    }

    /// Returns the readings at the start and at the end of each window.
    fn pairs(&self) -> [[&Reading; 2]; SAMPLES_MIN] {
        array::from_fn(|n| [&self.readings[n], &self.readings[n + 1]])
    }
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

/// Measures the frequency of the TSC again, against those clocks for which `rates` has an error, both in the same
/// windows. Repeats a set of measurements until it agrees for both clocks, at most [`ATTEMPTS`] times.
fn measure_tsc_again(
    counters: [Option<Counter>; 2],
    mut rates: [Option<Result<Rate, CalibrationError>>; 2],
) -> [Option<Result<Rate, CalibrationError>>; 2] {
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
