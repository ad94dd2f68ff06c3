//! Clock arithmetic: calibration, nanoseconds and tick rates. Uses integers only and does not access hardware.
#![forbid(unsafe_code)]

use core::fmt;

/// Frequency of the ACPI power management timer, in hertz (ACPI 6.5, 4.8.2.1).
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// Frequency of the PIT, in hertz: a third of the NTSC colour carrier.
pub const PIT_HZ: u64 = 1_193_182;
/// The longest period of the HPET's counter, in femtoseconds: 100 ns (IA-PC HPET specification 1.0a, 2.3.4).
const HPET_PERIOD_MAX_FS: u32 = 100_000_000;
/// The shortest accepted period of the HPET's counter, in femtoseconds: 10 ns. HPETs count at 10 to 25 MHz; QEMU's
/// counts at 100 MHz.
const HPET_PERIOD_MIN_FS: u32 = 10_000_000;
/// The slowest plausible counter, in hertz.
pub const RATE_MIN_HZ: u64 = 1_000;
/// The fastest plausible counter, in hertz.
pub const RATE_MAX_HZ: u64 = 100_000_000_000;
/// The minimum number of measurements for [`pick`]. Two are not enough: if they differ, either may be wrong.
pub const SAMPLES_MIN: usize = 3;

const NS_PER_S: u64 = 1_000_000_000;

/// The reason why a measured frequency is rejected. Measuring again may help, because a busy host distorts
/// measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalibrationError {
    /// The reference clock does not advance.
    NoReference,
    /// The reference clock may have wrapped around during the measurement.
    WindowTooLong,
    /// The frequency, in hertz, is not between [`RATE_MIN_HZ`] and [`RATE_MAX_HZ`].
    OutOfRange(u64),
    /// There are fewer than [`SAMPLES_MIN`] measurements.
    TooFewSamples(usize),
    /// At least half of the measurements differ from the median by more than 1 %.
    Disagree {
        /// The lowest measured frequency, in hertz.
        lowest: u64,
        /// The highest measured frequency, in hertz.
        highest: u64,
    },
}

impl fmt::Display for CalibrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CalibrationError::NoReference => f.write_str("the reference clock does not count"),
            CalibrationError::WindowTooLong => f.write_str(
                "the measurements took longer than the reference clock can count; is the host overloaded?",
            ),
            CalibrationError::OutOfRange(hz) => write!(f, "a measured frequency of {hz} Hz is not plausible"),
            CalibrationError::TooFewSamples(n) => {
                write!(f, "{n} measurements are too few, {SAMPLES_MIN} are needed")
            }
            CalibrationError::Disagree { lowest, highest } => write!(
                f,
                "measured frequencies disagree, from {lowest} to {highest} Hz; is the host overloaded?"
            ),
        }
    }
}

impl core::error::Error for CalibrationError {}

/// The rate of a counter, between [`RATE_MIN_HZ`] and [`RATE_MAX_HZ`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    hz: u64,
}

impl Rate {
    /// Returns the rate of a counter of `hz` hertz.
    ///
    /// # Errors
    /// [`CalibrationError::OutOfRange`].
    pub const fn from_hz(hz: u64) -> Result<Rate, CalibrationError> {
        if hz >= RATE_MIN_HZ && hz <= RATE_MAX_HZ {
            Ok(Rate { hz })
        } else {
            Err(CalibrationError::OutOfRange(hz))
        }
    }

    /// Returns the rate of a counter that advanced by `counted` while a reference clock of `reference_hz` advanced by
    /// `reference_ticks`. Rounds to the nearest hertz.
    ///
    /// # Errors
    /// [`CalibrationError::NoReference`] and [`CalibrationError::OutOfRange`].
    pub fn measured(counted: u64, reference_ticks: u64, reference_hz: u64) -> Result<Rate, CalibrationError> {
        if reference_ticks == 0 {
            return Err(CalibrationError::NoReference);
        }
        let hz = rounded_div(u128::from(counted) * u128::from(reference_hz), u128::from(reference_ticks));
        Rate::from_hz(hz)
    }

    /// Returns the rate in hertz.
    #[must_use]
    pub const fn hz(self) -> u64 {
        self.hz
    }

    /// Returns whether the rate differs from another one by at most 1 % of the other one.
    #[must_use]
    pub const fn agrees(self, with: Rate) -> bool {
        self.hz.abs_diff(with.hz) * 100 <= with.hz
    }

    /// Returns how far the counter advances in one period of `frequency_hz`, rounded to the nearest count. This is the
    /// initial count of a periodic timer. Returns 0 if `frequency_hz` is 0 or more than twice the counter's rate.
    #[must_use]
    pub fn per_period(self, frequency_hz: u32) -> u64 {
        if frequency_hz == 0 { 0 } else { rounded_div(u128::from(self.hz), u128::from(frequency_hz)) }
    }

    /// Returns how far the counter advances in `ns` nanoseconds, rounded to the nearest count.
    #[must_use]
    pub fn in_ns(self, ns: u64) -> u64 {
        rounded_div(u128::from(self.hz) * u128::from(ns), u128::from(NS_PER_S))
    }

    /// Returns the conversion from the counter's values to nanoseconds.
    #[must_use]
    pub const fn to_ns(self) -> ToNs {
        let (numerator, hz) = (NS_PER_S as u128, self.hz as u128);
        // Use as many bits as fit the multiplier. `shift` is at most 70, so nothing overflows.
        let mut shift = 0;
        while (numerator << (shift + 1)) / hz <= u64::MAX as u128 {
            shift += 1;
        }
        ToNs { mult: ((numerator << shift) / hz) as u64, shift }
    }
}

/// Converts counter differences to nanoseconds with a multiplication and a shift.
///
/// `mult` has 64 significant bits, so the relative error is below 1e-18. The result is rounded down and does not
/// overflow for 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToNs {
    mult: u64,
    shift: u32,
}

impl ToNs {
    /// Returns the nanoseconds in which the counter advances by `delta`. Monotonic in `delta`.
    #[inline]
    #[must_use]
    pub const fn ns(self, delta: u64) -> u64 {
        // The product of two 64-bit numbers fits in 128 bits. `wrapping_shr` avoids an overflow check, since `shift` is
        // below 128.
        (delta as u128 * self.mult as u128).wrapping_shr(self.shift) as u64
    }
}

/// How a CPU's time-stamp counter compares with the BSP's. A difference is a lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TscOrder {
    /// No difference can be detected.
    InStep,
    /// It is behind by at least this many ticks.
    Behind(u64),
    /// It is ahead by at least this many ticks.
    Ahead(u64),
}

/// Compares two time-stamp counters by three readings, one after the other: the BSP's `before`, the other CPU's `at`,
/// the BSP's `after`.
#[must_use]
pub const fn tsc_order(before: u64, at: u64, after: u64) -> TscOrder {
    if at < before {
        TscOrder::Behind(before - at)
    } else if at > after {
        TscOrder::Ahead(at - after)
    } else {
        TscOrder::InStep
    }
}

/// Returns the median of repeated measurements, if more than half of them are within 1 % of the median. Sorts
/// `samples`.
///
/// # Errors
/// [`CalibrationError::TooFewSamples`] and [`CalibrationError::Disagree`].
pub fn pick(samples: &mut [Rate]) -> Result<Rate, CalibrationError> {
    if samples.len() < SAMPLES_MIN {
        return Err(CalibrationError::TooFewSamples(samples.len()));
    }
    samples.sort_unstable();
    let median = samples[samples.len() / 2];
    if samples.iter().filter(|sample| sample.agrees(median)).count() * 2 > samples.len() {
        Ok(median)
    } else {
        let (lowest, highest) = (samples[0].hz, samples[samples.len() - 1].hz);
        Err(CalibrationError::Disagree { lowest, highest })
    }
}

/// Returns the frequency of the HPET's counter in hertz for the period in its capabilities, in femtoseconds, or `None`
/// if the period is not plausible, for example because no device responds.
#[must_use]
pub fn hpet_hz(period_fs: u32) -> Option<u64> {
    let plausible = (HPET_PERIOD_MIN_FS..=HPET_PERIOD_MAX_FS).contains(&period_fs);
    plausible.then(|| rounded_div(1_000_000_000_000_000, period_fs.into()))
}

/// Returns how far a 24-bit counter, such as the ACPI power management timer, has advanced if it wrapped at most once.
#[must_use]
pub const fn wrapping_diff24(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from) & 0x00ff_ffff
}

/// Returns how far a 32-bit counter, such as a power management timer with the FADT flag `TMR_VAL_EXT`, has advanced if
/// it wrapped at most once.
#[must_use]
pub const fn wrapping_diff32(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from)
}

/// Returns how far a 16-bit *down* counter has counted if it wrapped at most once: the PIT, with 0 loaded as its
/// period.
#[must_use]
pub const fn down_diff16(from: u16, to: u16) -> u16 {
    from.wrapping_sub(to)
}

/// Returns the rate of `ticks` ticks in `ns` nanoseconds, in millihertz, rounded; 0 if `ns` is 0.
#[must_use]
pub fn tick_millihertz(ticks: u64, ns: u64) -> u64 {
    if ns == 0 { 0 } else { rounded_div(u128::from(ticks) * 1_000_000_000_000, u128::from(ns)) }
}

/// Divides and rounds to the nearest integer, saturating at `u64::MAX`. The divisor must not be 0.
fn rounded_div(dividend: u128, divisor: u128) -> u64 {
    u64::try_from(dividend.saturating_add(divisor / 2) / divisor).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rate_is_computed_from_a_measurement() {
        let table = [
            ((2_450_000, PM_TIMER_HZ, PM_TIMER_HZ), Ok(2_450_000)),
            ((24_500_000, 35_795, PM_TIMER_HZ), Ok(2_450_030_800)),
            ((1, 0, PM_TIMER_HZ), Err(CalibrationError::NoReference)),
            ((0, 5, PM_TIMER_HZ), Err(CalibrationError::OutOfRange(0))),
            ((999, 1, 1), Err(CalibrationError::OutOfRange(999))),
            ((1000, 1, 1), Ok(1000)),
            ((u64::MAX, 1, u64::MAX), Err(CalibrationError::OutOfRange(u64::MAX))),
        ];
        for ((counted, ticks, hz), expected) in table {
            assert_eq!(Rate::measured(counted, ticks, hz).map(Rate::hz), expected);
        }
    }

    #[test]
    fn median_is_picked_if_most_samples_agree() {
        let pick = |hz: &[u64]| {
            let mut samples: Vec<_> = hz.iter().map(|&hz| Rate::from_hz(hz).unwrap()).collect();
            super::pick(&mut samples).map(Rate::hz)
        };
        assert_eq!(pick(&[1_000_000, 1_010_000, 990_000]), Ok(1_000_000));
        assert_eq!(pick(&[9_000_000, 1_000_000, 1_001_000]), Ok(1_001_000), "an outlier");
        let error = CalibrationError::Disagree { lowest: 1_000_000, highest: 1_040_000 };
        assert_eq!(pick(&[1_000_000, 1_020_000, 1_040_000]), Err(error));
        assert_eq!(pick(&[1_000, 1_000]), Err(CalibrationError::TooFewSamples(2)));
        assert!(error.to_string().contains("from 1000000 to 1040000 Hz"));
    }

    #[test]
    fn counter_differences_handle_a_wrap() {
        assert_eq!(wrapping_diff24(0x00ff_fff0, 0x10), 0x20);
        assert_eq!(wrapping_diff24(0x10, 0x00ff_fff0), 0x00ff_ffe0);
        assert_eq!(wrapping_diff24(0xabff_ffff, 0x1200_0001), 2, "the upper 8 bits are reserved");
        assert_eq!(wrapping_diff32(u32::MAX, 1), 2);
        assert_eq!((down_diff16(10, 3), down_diff16(3, 10)), (7, 0xfff9));
    }

    #[test]
    fn hpet_frequency_is_computed_from_a_plausible_period() {
        assert_eq!(hpet_hz(10_000_000), Some(100_000_000), "QEMU");
        assert_eq!(hpet_hz(69_841_279), Some(14_318_180), "a PC");
        assert_eq!([0, 9_999_999, 100_000_001, u32::MAX].map(hpet_hz), [None; 4]);
    }

    #[test]
    fn tsc_outside_the_two_reads_is_behind_or_ahead() {
        for at in [100, 150, 200] {
            assert_eq!(tsc_order(100, at, 200), TscOrder::InStep);
        }
        assert_eq!(tsc_order(100, 99, 200), TscOrder::Behind(1));
        assert_eq!(tsc_order(100, 0, 200), TscOrder::Behind(100));
        assert_eq!(tsc_order(100, 201, 200), TscOrder::Ahead(1));
        assert_eq!(tsc_order(0, u64::MAX, u64::MAX - 1), TscOrder::Ahead(1));
    }

    #[test]
    fn periods_and_tick_rates_are_rounded() {
        let rate = Rate::from_hz(1_000_000_000).unwrap();
        assert_eq!(
            (rate.per_period(100), rate.per_period(3), rate.per_period(0)),
            (10_000_000, 333_333_333, 0)
        );
        assert_eq!(rate.in_ns(1_000_000), 1_000_000);
        assert_eq!(tick_millihertz(150, 1_500_000_000), 100_000);
        assert_eq!(tick_millihertz(7, 70_021_000), 99_970);
        assert_eq!((tick_millihertz(5, 0), tick_millihertz(u64::MAX, 1)), (0, u64::MAX));
    }

    #[test]
    fn nanoseconds_are_exact_at_the_extremes() {
        for hz in [RATE_MIN_HZ, 999_999_999, 1_000_000_000, 2_450_000_000, RATE_MAX_HZ] {
            let to_ns = Rate::from_hz(hz).unwrap().to_ns();
            assert!(to_ns.mult >= 1 << 63 && to_ns.shift < 128, "{hz}: {to_ns:?}");
            assert_eq!(to_ns.ns(0), 0);
        }
        // 1 GHz has an exact multiplier.
        assert_eq!(Rate::from_hz(1_000_000_000).unwrap().to_ns().ns(u64::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn nanoseconds_are_exact_for_ten_years(hz in RATE_MIN_HZ..=RATE_MAX_HZ, seconds in 0..315_576_000_u64, part: u64) {
            let to_ns = Rate::from_hz(hz).unwrap().to_ns();
            let delta = u128::from(hz) * u128::from(seconds) + u128::from(part % hz);
            prop_assume!(delta <= u128::from(u64::MAX));
            let exact = delta * 1_000_000_000 / u128::from(hz);
            let ns = u128::from(to_ns.ns(delta as u64));
            prop_assert!(ns <= exact && exact - ns <= 1, "{} {}", ns, exact);
        }

        #[test]
        fn nanoseconds_are_monotonic(hz in 1_000_000_000..=RATE_MAX_HZ, delta: u64) {
            let to_ns = Rate::from_hz(hz).unwrap().to_ns();
            prop_assert!(to_ns.ns(delta) >= to_ns.ns(delta.saturating_sub(1)));
        }

        #[test]
        fn no_input_causes_a_panic(a: u64, b: u64, c: u64, hz in RATE_MIN_HZ..=RATE_MAX_HZ) {
            let _ = (Rate::measured(a, b, c), tick_millihertz(a, b));
            let rate = Rate::from_hz(hz).unwrap();
            let _ = (rate.in_ns(a), rate.per_period(b as u32), rate.to_ns().ns(c));
        }
    }
}
