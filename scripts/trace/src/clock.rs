//! Converts a CPU's time-stamp counter to nanoseconds since kernel start.

use super::file::Header;

/// One CPU's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    tsc_offset: i64,
    boot_tsc: u64,
    tsc_hz: u64,
}

impl Clock {
    /// Creates the clock of a CPU. The CPU's TSC plus `tsc_offset` is the BSP's TSC. If the TSC frequency was never
    /// measured, one tick counts as one nanosecond.
    pub fn new(header: &Header, tsc_offset: i64) -> Clock {
        let tsc_hz = if header.tsc_hz == 0 { 1_000_000_000 } else { header.tsc_hz };
        Clock { tsc_offset, boot_tsc: header.boot_tsc, tsc_hz }
    }

    /// Returns the ticks of the BSP's TSC since kernel start, or 0 before kernel start.
    pub fn ticks(&self, tsc: u64) -> u64 {
        tsc.saturating_add_signed(self.tsc_offset).saturating_sub(self.boot_tsc)
    }

    /// Converts ticks to nanoseconds, rounded down. It neither loses precision nor overflows in long runs.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        const GIGA: u64 = 1_000_000_000;
        match ticks.checked_mul(GIGA) {
            Some(product) => product / self.tsc_hz,
            None => {
                let wide = u128::from(ticks) * u128::from(GIGA) / u128::from(self.tsc_hz);
                u64::try_from(wide).unwrap_or(u64::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(tsc_hz: u64, boot_tsc: u64, tsc_offset: i64) -> Clock {
        Clock::new(&Header { tsc_hz, boot_tsc, ..Header::default() }, tsc_offset)
    }

    #[test]
    fn offset_and_boot_time_are_applied() {
        let clock = clock(2_000_000_000, 1000, -500);
        assert_eq!(clock.ticks(3500), 2000);
        assert_eq!(clock.nanoseconds(2000), 1000);
        assert_eq!(clock.ticks(100), 0, "before kernel start");
        assert_eq!(clock.ticks(0), 0, "no wrap-around");
    }

    #[test]
    fn hundred_days_do_not_overflow() {
        let seconds = 100 * 24 * 3600;
        let clock = clock(3_000_000_001, 0, 0);
        assert_eq!(clock.nanoseconds(seconds * 3_000_000_001), seconds * 1_000_000_000);
    }

    #[test]
    fn tick_is_a_nanosecond_if_the_frequency_is_unknown() {
        assert_eq!(clock(0, 0, 0).nanoseconds(7), 7);
    }
}
