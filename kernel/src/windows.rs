//! Measures the rate of a counter in consecutive windows of time. Does not access hardware.
#![forbid(unsafe_code)]

use crate::clock::{self, CalibrationError, Rate, SAMPLES_MIN};

/// The time over which the clocks are compared, in nanoseconds. All windows together have this length. The APs wait 10
/// ms after INIT, so the BSP has 2 ms to compute and print the result.
pub const SPAN_NS: u64 = 8_000_000;

/// The counts of a counter and of the reference clock in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The counts of the counter that is measured.
    pub counted: u64,
    /// The counts of the reference clock.
    pub reference: u64,
}

/// Returns the time from the first reading to the reading with this number, in nanoseconds. The first reading has
/// number 0.
#[must_use]
pub const fn due_ns(reading: usize) -> u64 {
    SPAN_NS * reading as u64 / SAMPLES_MIN as u64
}

/// Returns the rate of a counter. If each window agrees with the rate over all windows, returns that rate, because it
/// is the most exact one. Otherwise one of the readings may be wrong, and the function returns the median if most
/// windows agree with it.
///
/// # Errors
/// As for [`Rate::measured`] and [`clock::pick`].
pub fn rate(windows: &[Window; SAMPLES_MIN], reference_hz: u64) -> Result<Rate, CalibrationError> {
    let mut samples = [Rate::from_hz(clock::RATE_MIN_HZ)?; SAMPLES_MIN];
    let mut all = Window::default();
    for (sample, window) in samples.iter_mut().zip(windows) {
        *sample = Rate::measured(window.counted, window.reference, reference_hz)?;
        all.counted = all.counted.saturating_add(window.counted);
        all.reference = all.reference.saturating_add(window.reference);
    }
    let median = clock::pick(&mut samples)?;
    let overall = Rate::measured(all.counted, all.reference, reference_hz)?;
    Ok(if samples.iter().all(|sample| sample.agrees(overall)) { overall } else { median })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate_of(windows: [(u64, u64); SAMPLES_MIN]) -> Result<u64, CalibrationError> {
        rate(&windows.map(|(counted, reference)| Window { counted, reference }), 1_000_000).map(Rate::hz)
    }

    #[test]
    fn readings_are_due_at_equal_distances() {
        assert_eq!([0, 1, 2, 3].map(due_ns), [0, 2_666_666, 5_333_333, 8_000_000]);
    }

    #[test]
    fn windows_that_agree_give_the_rate_over_all_of_them() {
        assert_eq!(rate_of([(6600, 3300), (6612, 3300), (6600, 3300)]), Ok(2_001_212));
        assert_eq!(rate_of([(2000, 1000), (20_020, 10_000), (2000, 1000)]), Ok(2_001_667), "a long window");
    }

    #[test]
    fn one_wrong_window_is_outvoted() {
        assert_eq!(rate_of([(6600, 3300), (9000, 3300), (6601, 3300)]), Ok(2_000_303));
        assert_eq!(rate_of([(660, 3300), (6600, 3300), (6601, 3300)]), Ok(2_000_000));
    }

    #[test]
    fn wrong_reading_between_two_windows_is_detected() {
        // A reading that is too late makes one window longer and the next one shorter.
        let result = rate_of([(7000, 3300), (6200, 3300), (6600, 3300)]);
        assert_eq!(result, Err(CalibrationError::Disagree { lowest: 1_878_788, highest: 2_121_212 }));
    }

    #[test]
    fn stopped_clock_is_detected() {
        assert_eq!(rate_of([(6600, 3300), (6600, 0), (6600, 3300)]), Err(CalibrationError::NoReference));
        assert_eq!(rate_of([(6600, 3300), (0, 3300), (6600, 3300)]), Err(CalibrationError::OutOfRange(0)));
    }
}
