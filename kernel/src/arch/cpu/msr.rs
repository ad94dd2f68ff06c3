//! The MSRs of the syscall road: what each is set to, and the read-back that proves it on every CPU.

use core::fmt;

use x86_64::registers::model_specific::Msr;
use x86_64::registers::rflags::RFlags;

use crate::selectors::STAR;

// The numbers (SDM 4, 2.1) are named here, once, because assembly and the read-back table need them as numbers.
/// IA32_EFER.
pub const IA32_EFER: u32 = 0xc000_0080;
/// IA32_PAT.
pub const IA32_PAT: u32 = 0x277;
/// IA32_FS_BASE.
pub const IA32_FS_BASE: u32 = 0xc000_0100;
/// IA32_GS_BASE.
pub const IA32_GS_BASE: u32 = 0xc000_0101;
/// IA32_KERNEL_GS_BASE.
pub const IA32_KERNEL_GS_BASE: u32 = 0xc000_0102;
/// IA32_STAR.
pub const IA32_STAR: u32 = 0xc000_0081;
/// IA32_LSTAR.
pub const IA32_LSTAR: u32 = 0xc000_0082;
/// IA32_CSTAR.
pub const IA32_CSTAR: u32 = 0xc000_0083;
/// IA32_FMASK.
pub const IA32_FMASK: u32 = 0xc000_0084;
/// IA32_SYSENTER_CS.
pub const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_SYSENTER_ESP: u32 = 0x175;
const IA32_SYSENTER_EIP: u32 = 0x176;

/// The RFLAGS bits that SYSCALL clears (SDM 2B, SYSCALL), so that none of ring 3's choice is in force in ring 0:
///
/// - IF: the entry runs on the user's stack pointer until it has switched; no interrupt may come.
/// - TF: a #DB after the first instruction would come from ring 0 code that ring 3 single-steps.
/// - DF: compiled code takes string instructions to count upwards.
/// - AC: with SMAP it would open user memory to every stray kernel access.
/// - NT: the next `iretq` would fault on it.
/// - IOPL: ring 3's own value is 0 always; ring 0 has no use for another.
/// - RF: it would suppress a debug breakpoint on the first instruction.
/// - ID: no meaning in ring 0; cleared so that the flags at the entry are always the same word.
/// - CF, PF, AF, ZF, SF, OF: results of ring 3's last computation; cleared for the same reason.
pub const SFMASK: RFlags = RFlags::empty()
    .union(RFlags::INTERRUPT_FLAG)
    .union(RFlags::TRAP_FLAG)
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::ALIGNMENT_CHECK)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::IOPL_LOW)
    .union(RFlags::IOPL_HIGH)
    .union(RFlags::RESUME_FLAG)
    .union(RFlags::ID)
    .union(RFlags::CARRY_FLAG)
    .union(RFlags::PARITY_FLAG)
    .union(RFlags::AUXILIARY_CARRY_FLAG)
    .union(RFlags::ZERO_FLAG)
    .union(RFlags::SIGN_FLAG)
    .union(RFlags::OVERFLOW_FLAG);

/// An MSR that does not hold what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrMismatch {
    name: &'static str,
    written: u64,
    read: u64,
}

impl fmt::Display for MsrMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was set to {:#x} but reads {:#x}", self.name, self.written, self.read)
    }
}

impl core::error::Error for MsrMismatch {}

/// Sets this CPU's MSRs of the syscall road, reads each back and compares. `per_cpu` is the address of this
/// CPU's data, which becomes the GS base; `syscall_entry` is where `syscall` enters.
///
/// # Errors
/// The first MSR that does not hold its value: the CPU must not run ring-3 code then.
///
/// # Safety
/// `per_cpu` is the address of this CPU's `PerCpuData`, `syscall_entry` of code that keeps the contract of a system call's
/// entry; no GS-relative access may rely on another base.
pub unsafe fn program(per_cpu: u64, syscall_entry: u64) -> Result<(), MsrMismatch> {
    let table = [
        ("IA32_STAR", IA32_STAR, STAR),
        ("IA32_LSTAR", IA32_LSTAR, syscall_entry),
        // A `syscall` from compatibility mode cannot happen without a 32-bit code segment. Should one be
        // made up, address 0 is not mapped in ring 0's half.
        ("IA32_CSTAR", IA32_CSTAR, 0),
        ("IA32_FMASK", IA32_FMASK, SFMASK.bits()),
        // A null CS makes SYSENTER fault with #GP (SDM 2B, SYSENTER).
        ("IA32_SYSENTER_CS", IA32_SYSENTER_CS, 0),
        ("IA32_SYSENTER_ESP", IA32_SYSENTER_ESP, 0),
        ("IA32_SYSENTER_EIP", IA32_SYSENTER_EIP, 0),
        ("IA32_GS_BASE", IA32_GS_BASE, per_cpu),
        // The base that ring 3 gets from the first exit's `swapgs`.
        ("IA32_KERNEL_GS_BASE", IA32_KERNEL_GS_BASE, 0),
    ];
    for (_, number, value) in table {
        // SAFETY: these MSRs exist on every x86-64 CPU; the values are segments that the GDT has, and the
        // entry and the GS base that the caller vouches for.
        unsafe { Msr::new(number).write(value) };
    }
    // SAFETY: reading changes nothing.
    compare(&table, |number| unsafe { Msr::new(number).read() })
}

/// Reads each MSR of the table of names, numbers and values, and compares.
fn compare(table: &[(&'static str, u32, u64)], mut read: impl FnMut(u32) -> u64) -> Result<(), MsrMismatch> {
    for &(name, number, written) in table {
        let read = read(number);
        if read != written {
            return Err(MsrMismatch { name, written, read });
        }
    }
    Ok(())
}

/// Reads the GS base, by which code that may run before or without per-CPU data finds out.
#[must_use]
pub fn gs_base() -> u64 {
    // SAFETY: every x86-64 CPU has this MSR, and reading it changes nothing.
    unsafe { Msr::new(IA32_GS_BASE).read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit (SDM 1, 3.4.3), for QEMU's TCG clears DF at `syscall` whatever SFMASK says.
    #[test]
    fn syscall_clears_each_of_the_flags() {
        let flags = [
            ("CF", 0),
            ("PF", 2),
            ("AF", 4),
            ("ZF", 6),
            ("SF", 7),
            ("TF", 8),
            ("IF", 9),
            ("DF", 10),
            ("OF", 11),
            ("IOPL", 12),
            ("IOPL", 13),
            ("NT", 14),
            ("RF", 16),
            ("AC", 18),
            ("ID", 21),
        ];
        for (name, bit) in flags {
            assert!(SFMASK.bits() >> bit & 1 == 1, "{name} is not cleared");
        }
        assert_eq!(SFMASK.bits().count_ones() as usize, flags.len());
    }

    #[test]
    fn a_value_that_does_not_hold_is_named() {
        let table = [("ONE", 1, 10), ("TWO", 2, 20), ("THREE", 3, 30)];
        assert_eq!(compare(&table, |number| u64::from(number) * 10), Ok(()));
        for &(name, wrong, written) in &table {
            let found = compare(&table, |number| u64::from(number) * 10 + u64::from(number == wrong));
            assert_eq!(found, Err(MsrMismatch { name, written, read: written + 1 }));
        }
    }
}
