//! The clocks against which the time-stamp counter is measured: their order of preference, and the comparison of two of
//! them. Does not access hardware.
#![forbid(unsafe_code)]

use core::fmt;

pub use kernel_abi::record::ClockSource;

use crate::clock::{CalibrationError, Rate};

/// The clock frequencies that CPUID reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidClocks {
    /// Leaf 0x15, or zeros: EAX and EBX hold the ratio of the TSC's rate (EBX) to the crystal's (EAX), ECX the crystal's
    /// frequency in hertz (SDM 3B, 18.17.3).
    pub crystal: [u32; 3],
    /// EAX of leaf 0x16, or 0: the nominal frequency in MHz.
    pub nominal_mhz: u32,
    /// Whether the kernel runs under a hypervisor.
    pub hypervisor: bool,
}

impl CpuidClocks {
    /// Returns the rate that leaf 0x15 reports, or `None` if it does not know the crystal's frequency or has no ratio.
    #[must_use]
    pub fn exact(&self) -> Option<Rate> {
        let [denominator, numerator, crystal_hz] = self.crystal;
        if numerator == 0 || crystal_hz == 0 {
            return None;
        }
        Rate::measured(numerator.into(), denominator.into(), crystal_hz.into()).ok()
    }

    /// Returns the rate that leaf 0x16 reports. The leaf is meant for display, and its frequency is rounded to 1 MHz
    /// (SDM 2A, CPUID, leaf 0x16).
    #[must_use]
    pub fn nominal(&self) -> Option<Rate> {
        Rate::from_hz(u64::from(self.nominal_mhz) * 1_000_000).ok()
    }
}

/// A rate of the TSC, and the clock that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The clock.
    pub source: ClockSource,
    /// The rate of the TSC.
    pub rate: Rate,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kHz by {}", self.rate.hz() / 1000, self.source)
    }
}

impl Measured {
    /// Returns whether two rates differ by at most 1 %.
    fn agrees(self, other: Measured) -> bool {
        let (hz, other) = (self.rate.hz(), other.rate.hz());
        hz.abs_diff(other).saturating_mul(100) <= hz.max(other)
    }
}

/// The rate of the TSC that the kernel uses, and the rate that a second clock gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The rate that the kernel uses.
    pub used: Measured,
    /// The rate that another clock gives; `None` if there is no other clock.
    pub check: Option<Measured>,
}

impl Choice {
    /// Returns whether the second clock confirms the rate. `true` without a second clock.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.check.is_none_or(|check| check.agrees(self.used))
    }
}

/// Chooses the rate of the TSC, and a second rate with which to check it. `measured` holds the rates that were measured
/// with the machine's clocks.
///
/// The order is CPUID leaf 0x15, HPET, power-management timer, PIT, CPUID leaf 0x16. Leaf 0x16 is the last because it is
/// not exact. Under a hypervisor, leaf 0x15 comes after the clocks: it may describe the host's processor, while the
/// hypervisor scales the guest's TSC. If the first two differ and a third one confirms the second, the second is used.
///
/// # Errors
/// The error of the first measurement that failed, with its clock; `None` if the machine has no clock.
pub fn choose(
    cpuid: &CpuidClocks,
    measured: &[(ClockSource, Result<Rate, CalibrationError>)],
) -> Result<Choice, Option<(ClockSource, CalibrationError)>> {
    use ClockSource::{Cpuid, Hpet, Nominal, Pit, PmTimer};
    let order = match cpuid.hypervisor {
        false => [Cpuid, Hpet, PmTimer, Pit, Nominal],
        true => [Hpet, PmTimer, Pit, Cpuid, Nominal],
    };
    let rate_by = |source| {
        let rate = match source {
            Cpuid => cpuid.exact(),
            Nominal => cpuid.nominal(),
            _ => measured.iter().find(|(by, _)| *by == source).and_then(|(_, rate)| rate.ok()),
        };
        rate.map(|rate| Measured { source, rate })
    };
    let mut found = order.into_iter().filter_map(rate_by);
    let failed = || measured.iter().find_map(|&(source, rate)| rate.err().map(|error| (source, error)));
    let first = found.next().ok_or_else(failed)?;
    Ok(match (found.next(), found.next()) {
        (Some(second), Some(third)) if !second.agrees(first) && second.agrees(third) => {
            Choice { used: second, check: Some(first) }
        }
        (second, _) => Choice { used: first, check: second },
    })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    fn rate(hz: u64) -> Rate {
        Rate::from_hz(hz).expect("the rate must be valid")
    }

    /// CPUID of a CPU with a crystal of 24 MHz and a TSC of 2.4 GHz, whose nominal frequency is 2.5 GHz.
    const CPUID: CpuidClocks =
        CpuidClocks { crystal: [2, 200, 24_000_000], nominal_mhz: 2500, hypervisor: false };
    const FAILED: CalibrationError = CalibrationError::NoReference;

    #[test]
    fn rate_is_read_from_cpuid() {
        assert_eq!((CPUID.exact(), CPUID.nominal()), (Some(rate(2_400_000_000)), Some(rate(2_500_000_000))));
        for crystal in [[0, 200, 24_000_000], [2, 0, 24_000_000], [2, 200, 0], [0; 3], [u32::MAX, 1, 1]] {
            assert_eq!(CpuidClocks { crystal, ..CPUID }.exact(), None, "{crystal:?}");
        }
        assert_eq!(CpuidClocks::default().nominal(), None);
    }

    #[test]
    fn clocks_are_preferred_in_order() {
        use ClockSource::{Cpuid, Hpet, Nominal, Pit, PmTimer};
        let all =
            [(PmTimer, 2_000_000), (Hpet, 3_000_000), (Pit, 4_000_000)].map(|(by, hz)| (by, Ok(rate(hz))));
        let no_crystal = CpuidClocks { crystal: [2, 200, 0], ..CPUID };
        let guest = CpuidClocks { hypervisor: true, ..CPUID };
        for (cpuid, measured, used, check) in [
            (CPUID, &all[..], Cpuid, Some(Hpet)),
            (no_crystal, &all[..], Hpet, Some(PmTimer)),
            (no_crystal, &all[..1], PmTimer, Some(Nominal)),
            (no_crystal, &[], Nominal, None),
            (CPUID, &[], Cpuid, Some(Nominal)),
            (guest, &all[..], Hpet, Some(PmTimer)),
            (guest, &all[2..], Pit, Some(Cpuid)),
            (guest, &[], Cpuid, Some(Nominal)),
            (CpuidClocks::default(), &all[2..], Pit, None),
            (CpuidClocks::default(), &[(Hpet, Err(FAILED)), all[0], all[2]], PmTimer, Some(Pit)),
        ] {
            let choice = choose(&cpuid, measured).expect("there must be a clock");
            assert_eq!((choice.used.source, choice.check.map(|check| check.source)), (used, check));
        }
        let none = CpuidClocks::default();
        assert_eq!(choose(&none, &[]), Err(None));
        assert_eq!(choose(&none, &[(Pit, Err(FAILED))]), Err(Some((Pit, FAILED))));
    }

    #[test]
    fn two_clocks_that_agree_outvote_the_first() {
        use ClockSource::{Cpuid, Hpet, PmTimer};
        let sources = |hpet, pm_timer| {
            let measured = [(Hpet, Ok(rate(hpet))), (PmTimer, Ok(rate(pm_timer)))];
            let choice = choose(&CPUID, &measured).expect("there must be a clock");
            (choice.used.source, choice.check.map(|check| check.source), choice.is_confirmed())
        };
        assert_eq!(sources(100_000_000, 100_500_000), (Hpet, Some(Cpuid), false));
        assert_eq!(sources(100_000_000, 300_000_000), (Cpuid, Some(Hpet), false));
        assert_eq!(sources(100_000_000, 2_400_000_000), (Cpuid, Some(Hpet), false));
        assert_eq!(sources(2_410_000_000, 100_000_000), (Cpuid, Some(Hpet), true));
    }

    #[test]
    fn clocks_disagree_from_one_percent_on() {
        let choice = |hz| Choice {
            used: Measured { source: ClockSource::Hpet, rate: rate(1_000_000) },
            check: Some(Measured { source: ClockSource::Pit, rate: rate(hz) }),
        };
        assert!([990_000, 1_000_000, 1_010_101].map(choice).iter().all(Choice::is_confirmed));
        assert!(![989_999, 1_010_102, 100_000_000_000].map(choice).iter().any(Choice::is_confirmed));
        assert!(Choice { check: None, ..choice(1_000_000) }.is_confirmed());
        assert_eq!(choice(1_000_000).used.to_string(), "1000 kHz by the HPET");
    }
}
