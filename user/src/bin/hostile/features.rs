//! The CPU features on which the outcomes of probes depend.

use core::arch::x86_64::__cpuid_count;

/// CPU features, as reported by CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// User-mode instruction prevention: `sgdt`, `sidt`, `sldt`, `str` and `smsw` raise #GP.
    pub umip: bool,
    /// The vendor is Intel, whose CPUs have `sysenter` in long mode.
    pub intel: bool,
}

impl Features {
    /// Reads this CPU's features.
    pub fn of_this_cpu() -> Features {
        let leaf = |leaf| __cpuid_count(leaf, 0);
        let vendor = leaf(0);
        let umip = vendor.eax >= 7 && leaf(7).ecx & 1 << 2 != 0;
        // "Genu", "ineI", "ntel" (SDM 2A, CPUID).
        let intel = [vendor.ebx, vendor.edx, vendor.ecx] == [0x756e_6547, 0x4965_6e69, 0x6c65_746e];
        Features { umip, intel }
    }
}
