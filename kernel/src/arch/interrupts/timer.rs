//! Calibration. The frequency of the TSC is measured against the ACPI power-management timer, and the frequency of the
//! local APIC timer against the interval timer (8254). The two references are independent. Every run prints the tick
//! rate as measured with the TSC, and thereby cross-checks the calibration of the APIC timer. On a machine without the
//! interval timer, both are measured against the power-management timer.
//!
//! A busy host may deschedule a virtual CPU between any two instructions while the clocks keep counting. So a counter
//! and its reference are read as a pair, between two reads of the TSC, and the fastest of several tries is used.

use core::fmt;
use core::hint::spin_loop;

use spin::Once;
use x86_64::instructions::port::{Port, PortReadOnly};

use crate::arch::cpu::tsc;
use crate::arch::interrupts::apic::LocalApic;
use crate::arch::memory::acpi::PmTimer;
use crate::clock::{self, CalibrationError, PIT_HZ, PM_TIMER_HZ, Rate, SAMPLES_MIN, ToNs};

/// The length of one measurement, as a fraction of a second: 1/200 s is 5 ms.
const WINDOWS_PER_SECOND: u64 = 200;
/// The longest measurement that is valid: the interval timer wraps after 54.9 ms.
const PIT_WINDOW_MAX_NS: u64 = 50_000_000;
/// The longest time for which the interval timer's count may stay the same, in nanoseconds. A running timer changes the
/// count about every microsecond.
const PIT_STEP_MAX_NS: u64 = 10_000_000;
/// The maximum number of attempts to get a set of measurements that is valid and agrees.
const ATTEMPTS: usize = 20;

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

    /// Converts a TSC value to nanoseconds since boot. The TSC of a CPU that is behind the BSP's may be below its value
    /// at boot: the result is then 0.
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
    /// The frequency of the local APIC's timer.
    pub apic_timer: Rate,
    /// Whether the APIC timer was measured against the interval timer. If not, the machine has no interval timer.
    pub has_pit: bool,
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

/// The error that the frequency of a clock cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerError {
    /// The TSC cannot be measured against the power-management timer.
    Tsc(CalibrationError),
    /// The APIC timer cannot be measured against the interval timer.
    ByPit(CalibrationError),
    /// The APIC timer cannot be measured against the power-management timer.
    ByPmTimer(CalibrationError),
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (timer, reference, error) = match self {
            TimerError::Tsc(error) => ("TSC", "power-management timer", error),
            TimerError::ByPit(error) => ("APIC timer", "interval timer (PIT)", error),
            TimerError::ByPmTimer(error) => ("APIC timer", "power-management timer", error),
        };
        write!(f, "cannot measure the {timer} against the {reference}: {error}")
    }
}

impl core::error::Error for TimerError {}

/// Measures both frequencies and computes the tick interval. `boot` is the TSC value at the start of the kernel.
///
/// # Errors
/// [`TimerError`], with the error of the last attempt.
pub fn init(
    boot: u64,
    pm_timer: PmTimer,
    apic: &mut LocalApic,
    tick_hz: u32,
) -> Result<&'static Timebase, TimerError> {
    let tsc = repeat(|| measure_tsc(pm_timer)).map_err(TimerError::Tsc)?;
    let to_ns = tsc.to_ns();
    start_pit();
    let has_pit = pit_counts(to_ns);
    apic.start_counting();
    let apic_timer = if has_pit {
        repeat(|| measure_by_pit(apic, to_ns)).map_err(TimerError::ByPit)?
    } else {
        repeat(|| measure_by_pm_timer(apic, pm_timer)).map_err(TimerError::ByPmTimer)?
    };
    apic.stop_ticking();
    // Clamp the count to the range of the 32-bit counter, from 1 up. A 1 Hz tick with a timer above 4.29 GHz would
    // exceed the range.
    let apic_ticks = u32::try_from(apic_timer.per_period(tick_hz)).unwrap_or(u32::MAX).max(1);
    Ok(TIMEBASE.call_once(|| Timebase {
        clock: TscClock::new(boot, tsc),
        tsc,
        apic_timer,
        has_pit,
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

/// Measures the TSC's frequency once.
fn measure_tsc(pm_timer: PmTimer) -> Result<Rate, CalibrationError> {
    let (((), tsc_from), ((), tsc_to), elapsed) = pm_timer_window(pm_timer, || ())?;
    Rate::measured(tsc_to.wrapping_sub(tsc_from), elapsed, PM_TIMER_HZ)
}

/// Measures the APIC timer's frequency once, on a machine without the interval timer.
fn measure_by_pm_timer(apic: &LocalApic, pm_timer: PmTimer) -> Result<Rate, CalibrationError> {
    let ((from, _), (to, _), elapsed) = pm_timer_window(pm_timer, || apic.counted())?;
    Rate::measured(to.wrapping_sub(from).into(), elapsed, PM_TIMER_HZ)
}

/// Reads a counter and the TSC at the start and at the end of one measurement. Returns both pairs, and how far the
/// power-management timer advanced.
#[expect(clippy::type_complexity)]
fn pm_timer_window<T>(
    pm_timer: PmTimer,
    counter: impl Fn() -> T,
) -> Result<((T, u64), (T, u64), u64), CalibrationError> {
    let window = PM_TIMER_HZ / WINDOWS_PER_SECOND;
    let mut port = PortReadOnly::<u32>::new(pm_timer.port);
    // SAFETY: the FADT reports this port as that of the power-management timer, and reading it has no effect.
    let mut read = || unsafe { port.read() };
    let ((from, counter_from), tsc_from) = pair(|| (read(), counter()));
    let mut elapsed: u64 = 0;
    // The counter is 24 or 32 bits wide. In both cases its low 24 bits wrap after 4.7 s.
    for _ in 0..10_000_000 {
        elapsed = clock::wrapping_diff24(from, read()).into();
        if elapsed >= window {
            break;
        }
        spin_loop();
    }
    if elapsed == 0 {
        return Err(CalibrationError::NoReference);
    }
    let ((to, counter_to), tsc_to) = pair(|| (read(), counter()));
    Ok(((counter_from, tsc_from), (counter_to, tsc_to), clock::wrapping_diff24(from, to).into()))
}

/// The interval timer's port for channel 2 (8254 data sheet).
const PIT_CHANNEL_2: u16 = 0x42;
/// The interval timer's command port.
const PIT_COMMAND: u16 = 0x43;
/// The port with the gate of channel 2 (bit 0) and the loudspeaker (bit 1).
const PIT_GATE: u16 = 0x61;

/// Starts channel 2: it counts down from 65536 repeatedly, with the loudspeaker off.
fn start_pit() {
    let (mut gate, mut command, mut channel) =
        (Port::<u8>::new(PIT_GATE), Port::<u8>::new(PIT_COMMAND), Port::<u8>::new(PIT_CHANNEL_2));
    // SAFETY: these are the interval timer's ports on every PC, and nothing else in the kernel uses channel 2.
    unsafe {
        let others = gate.read() & !0b11;
        gate.write(others | 0b01);
        command.write(0xb4); // channel 2, low then high byte, mode 2 (rate generator), binary
        channel.write(0);
        channel.write(0);
    }
}

/// Reads channel 2's count.
fn read_pit() -> u16 {
    let (mut command, mut channel) = (Port::<u8>::new(PIT_COMMAND), Port::<u8>::new(PIT_CHANNEL_2));
    // SAFETY: these are the interval timer's ports on every PC, and nothing else in the kernel uses channel 2. The
    // command latches the count of channel 2, which the two reads return.
    unsafe {
        command.write(0x80);
        u16::from_le_bytes([channel.read(), channel.read()])
    }
}

/// Returns whether channel 2 counts. A machine may lack the interval timer, or may keep its gate closed permanently.
fn pit_counts(tsc_to_ns: ToNs) -> bool {
    let (first, start) = (read_pit(), tsc::now());
    loop {
        // Read the time before the count: a count that is read after the timeout has had enough time to change.
        let too_late = tsc_to_ns.ns(tsc::now().wrapping_sub(start)) > PIT_STEP_MAX_NS;
        if read_pit() != first {
            return true;
        }
        if too_late {
            return false;
        }
        spin_loop();
    }
}

/// Measures the APIC timer's frequency once.
fn measure_by_pit(apic: &LocalApic, tsc_to_ns: ToNs) -> Result<Rate, CalibrationError> {
    let window = (PIT_HZ / WINDOWS_PER_SECOND) as u16;
    let mut read = || (read_pit(), apic.counted());
    let ((pit_from, counted_from), tsc_from) = pair(&mut read);
    let too_long = |until: u64| tsc_to_ns.ns(until.wrapping_sub(tsc_from)) > PIT_WINDOW_MAX_NS;
    while clock::down_diff16(pit_from, read_pit()) < window && !too_long(tsc::now()) {
        spin_loop();
    }
    let ((pit_to, counted_to), tsc_to) = pair(&mut read);
    if too_long(tsc_to) {
        return Err(CalibrationError::NoReference);
    }
    Rate::measured(
        counted_to.wrapping_sub(counted_from).into(),
        clock::down_diff16(pit_from, pit_to).into(),
        PIT_HZ,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_0_until_the_tsc_reaches_its_value_at_boot() {
        let clock = TscClock::new(1_000, Rate::from_hz(1_000_000_000).expect("a plausible rate"));
        assert_eq!([1_000, 1_007, 2_000].map(|tsc| clock.ns(tsc)), [0, 7, 1_000]);
        for behind in [999, 500, 0] {
            assert_eq!(clock.ns(behind), 0);
        }
        assert_eq!(clock.between(10, 510), 500, "intervals do not depend on the value at boot");
    }
}
