//! The clock, and the BSP's measurements of the TSC and of the local APIC timer ([`calibration`](super::calibration)),
//! which all CPUs use.

use core::fmt;

use spin::Once;

use crate::clock::{CalibrationError, Rate, ToNs};
use crate::clock_source::{Choice, ClockSource};

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
/// If called before the end of the calibration.
#[must_use]
pub fn timebase() -> &'static Timebase {
    TIMEBASE.get().expect("the calibration must end before any use of the clocks")
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

/// Publishes the measurements, and computes the tick interval. `boot` is the TSC value at the start of the kernel.
pub(super) fn publish(boot: u64, choice: Choice, apic_timer: Rate, tick_hz: u32) -> &'static Timebase {
    let tsc = choice.used.rate;
    // Clamp the count to the range of the 32-bit counter, from 1 up. A 1 Hz tick with a timer above 4.29 GHz would
    // exceed the range.
    let apic_ticks = u32::try_from(apic_timer.per_period(tick_hz)).unwrap_or(u32::MAX).max(1);
    TIMEBASE.call_once(|| Timebase {
        clock: TscClock::new(boot, tsc),
        tsc,
        choice,
        apic_timer,
        apic_ticks,
        tick_hz,
        tick_tsc: tsc.per_period(tick_hz),
    })
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
