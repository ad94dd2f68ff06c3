//! Decides whether a system call may return with `sysretq` or must use `iretq`.
//!
//! `sysretq` is faster but restricted: it loads RIP from rcx, RFLAGS from r11, and CS and SS from STAR (SDM 2B, SYSRET;
//! APM 3, SYSRET). A frame with other values, or with values on which `sysretq` itself faults, must return with
//! `iretq`. An ordinary system call returns with `sysretq`.
#![forbid(unsafe_code)]

use kernel_abi::layout::USER_END;

/// RFLAGS bits (SDM 1, 3.4.3) that prevent a return with `sysretq`.
///
/// * TF, 8: if `sysretq` sets TF, it traps before ring 3 has executed an instruction. If `iretq` sets TF, one
///   instruction executes first, as a debugger expects.
/// * IOPL, 12 and 13: ring 3 cannot set these bits. A frame that has them set is invalid, and only the `iretq` path
///   checks that.
/// * RF, 16, and VM, 17: `sysretq` always clears them (mask 0x3c7fd7, SDM 2B, SYSRET). Without RF, a breakpoint at RIP
///   would hit a second time. VM does not exist in 64-bit mode.
///
/// NT is not included: ring 3 may set NT, and both instructions restore it.
pub const RFLAGS_NEED_IRET: u64 = 1 << 8 | 3 << 12 | 1 << 16 | 1 << 17;

/// The state in which ring 3 continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// Address of the next instruction.
    pub rip: u64,
    /// The flags to restore.
    pub rflags: u64,
    /// The value for the user rcx.
    pub rcx: u64,
    /// The value for the user r11.
    pub r11: u64,
}

/// Returns true if `sysretq` restores exactly the same state from this frame as `iretq`. The conditions are:
///
/// * RIP is below [`USER_END`]. With a non-canonical RIP, Intel's `sysretq` raises #GP *in ring 0*, with the user stack
///   pointer already loaded (CVE-2012-0217). AMD's raises it in ring 3.
/// * No flag of [`RFLAGS_NEED_IRET`] is set.
/// * rcx equals RIP and r11 equals RFLAGS, because `sysretq` loads RIP from rcx and RFLAGS from r11. If they differ,
///   the frame was changed after `syscall` or was not built by one, and only `iretq` can restore both values of each
///   pair.
///
/// CS and SS are not checked, because every frame in this kernel has the values from STAR.
///
/// All conditions are combined into one value, which is tested once, to keep branches out of the hot path.
#[inline]
#[must_use]
pub const fn may_sysret(to: &Return) -> bool {
    let differs = (to.rip ^ to.rcx) | (to.rflags ^ to.r11) | (to.rflags & RFLAGS_NEED_IRET);
    (differs == 0) & (to.rip < USER_END)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// IF, and bit 1, which is always set.
    const PLAIN: u64 = 0x202;

    fn ordinary(rip: u64, rflags: u64) -> Return {
        Return { rip, rflags, rcx: rip, r11: rflags }
    }

    #[test]
    fn ordinary_call_returns_with_sysret() {
        for rip in [0, 0x1_0000_0000, 0x7fff_feff_fffe, USER_END - 1] {
            assert!(may_sysret(&ordinary(rip, PLAIN)), "{rip:#x}");
        }
        // CF PF AF ZF SF DF OF NT AC ID: flags that programs may have set.
        for bit in [0, 2, 4, 6, 7, 10, 11, 14, 18, 21] {
            assert!(may_sysret(&ordinary(0x1000, PLAIN | 1 << bit)), "flag {bit}");
        }
    }

    #[test]
    fn sysret_rejects_rip_outside_the_user_half() {
        let bad =
            [USER_END, 0x7fff_ffff_ffff, 1 << 47, 0x8000_0000_0000_0000, 0xffff_ffff_8000_0000, u64::MAX];
        for rip in bad {
            assert!(!may_sysret(&ordinary(rip, PLAIN)), "{rip:#x}");
        }
    }

    #[test]
    fn sysret_rejects_each_special_flag() {
        for (bit, name) in [(8, "TF"), (12, "IOPL"), (13, "IOPL"), (16, "RF"), (17, "VM")] {
            assert!(!may_sysret(&ordinary(0x1000, PLAIN | 1 << bit)), "{name}");
        }
    }

    #[test]
    fn sysret_rejects_changed_rcx_or_r11() {
        let frame = ordinary(0x1000, PLAIN);
        for bit in 0..64 {
            assert!(!may_sysret(&Return { rcx: frame.rcx ^ 1 << bit, ..frame }), "rcx bit {bit}");
            assert!(!may_sysret(&Return { r11: frame.r11 ^ 1 << bit, ..frame }), "r11 bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_conditions_one_by_one(
            rip: u64, small in 0..(1_u64 << 48), pick in 0..2_usize, rflags in 0..(1_u64 << 22),
            rcx_changed: bool, r11_changed: bool,
        ) {
            let rip = [rip, small][pick];
            let mut frame = ordinary(rip, rflags);
            frame.rcx ^= u64::from(rcx_changed);
            frame.r11 ^= u64::from(r11_changed);
            let flag = |bit: u32| rflags >> bit & 1 == 1;
            let needs_iret = rip >= USER_END || rcx_changed || r11_changed
                || flag(8) || flag(12) || flag(13) || flag(16) || flag(17);
            prop_assert_eq!(may_sysret(&frame), !needs_iret);
        }
    }
}
