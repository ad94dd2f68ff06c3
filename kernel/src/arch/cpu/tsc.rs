//! The time-stamp counter.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc};
use core::hint::spin_loop;

use x86_64::registers::model_specific::Msr;

use crate::clock::Rate;

const IA32_TSC_ADJUST: u32 = 0x3b;

/// Returns the counter's low and high half, as RDTSC does.
#[inline(always)]
#[must_use]
pub fn halves() -> [u32; 2] {
    let (low, high): (u32, u32);
    // SAFETY: every x86-64 CPU has the counter, and reading it has no effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    [low, high]
}

/// A CPU's time-stamp counter, for the comparison of all CPUs.
#[derive(Clone, Copy, Debug)]
pub struct TscState {
    /// The counter's value during the CPU's setup.
    pub at_set_up: u64,
    /// The value of IA32_TSC_ADJUST, which is the total that software has added to the counter; `None` if the CPU lacks
    /// this MSR.
    pub adjust: Option<u64>,
    /// Whether the counter's rate may change with the CPU's frequency.
    pub rate_may_change: bool,
}

impl TscState {
    /// Reads this CPU's state.
    #[must_use]
    pub fn read() -> TscState {
        let leaf7 = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        let power = if __cpuid(0x8000_0000).eax >= 0x8000_0007 { __cpuid(0x8000_0007).edx } else { 0 };
        TscState {
            at_set_up: now(),
            // SAFETY: the CPU has the MSR, and reading it has no effect.
            adjust: has_adjust(leaf7).then(|| unsafe { Msr::new(IA32_TSC_ADJUST).read() }),
            rate_may_change: rate_may_change(power, __cpuid(1).ecx),
        }
    }
}

/// Returns whether a CPU with this EBX of CPUID's leaf 7 has IA32_TSC_ADJUST (SDM 3B, 18.17.3).
const fn has_adjust(leaf7_ebx: u32) -> bool {
    leaf7_ebx & 1 << 1 != 0
}

/// Returns whether the TSC's rate may change. EDX of CPUID's leaf 0x8000_0007 reports whether the TSC is invariant
/// (SDM 3B, 18.17.1), and ECX of leaf 1 whether there is a hypervisor. A hypervisor may clear the invariance bit only
/// because it may move the guest to another host, so under a hypervisor a clear bit does not count.
const fn rate_may_change(power_edx: u32, leaf1_ecx: u32) -> bool {
    const INVARIANT: u32 = 1 << 8;
    const HYPERVISOR: u32 = 1 << 31;
    power_edx & INVARIANT == 0 && leaf1_ecx & HYPERVISOR == 0
}

/// Reads the TSC. The read is not ordered with other instructions.
#[inline]
#[must_use]
pub fn now() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC, and CR4.TSD does not restrict it in ring 0.
    unsafe { _rdtsc() }
}

/// Reads the counter after all earlier loads (SDM 2B, RDTSC).
#[must_use]
pub fn now_in_order() -> u64 {
    // SAFETY: the fence only orders instructions.
    unsafe { asm!("lfence", options(nostack, preserves_flags)) };
    now()
}

/// Waits for a number of nanoseconds, measured with the TSC.
pub fn wait_ns(rate: Rate, ns: u64) {
    let ticks = rate.in_ns(ns);
    let start = now();
    while now().wrapping_sub(start) < ticks {
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_may_change_without_invariant_tsc_and_hypervisor() {
        assert!(rate_may_change(!(1 << 8), !(1 << 31)));
        assert!(!rate_may_change(1 << 8, 0));
        assert!(!rate_may_change(0, 1 << 31));
    }
}
