//! What this CPU has, as far as the outcome of a probe depends on it.

use core::arch::x86_64::__cpuid_count;

/// The answers of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// User-mode instruction prevention: `sgdt` and its kin raise #GP.
    pub umip: bool,
    /// The vendor is Intel: `sysenter` exists in long mode.
    pub intel: bool,
}

impl Features {
    /// This CPU's.
    pub fn of_this_cpu() -> Features {
        let leaf = |leaf| __cpuid_count(leaf, 0);
        let vendor = leaf(0);
        let umip = vendor.eax >= 7 && leaf(7).ecx & 1 << 2 != 0;
        // "Genu", "ineI", "ntel" (SDM 2A, CPUID).
        let intel = [vendor.ebx, vendor.edx, vendor.ecx] == [0x756e_6547, 0x4965_6e69, 0x6c65_746e];
        Features { umip, intel }
    }
}
