//! The MSRs of the system-call path: the values written to them, and the read-back check on every CPU.

use core::fmt;

use x86_64::registers::model_specific::Msr;
use x86_64::registers::rflags::RFlags;

use crate::cpu::CpuId;
use crate::features::Features;
use crate::selectors::STAR;

// The MSR numbers (SDM 4, 2.1) are defined here because assembly and the read-back table need them as numbers.
/// IA32_EFER.
pub const IA32_EFER: u32 = 0xc000_0080;
/// IA32_PAT.
pub const IA32_PAT: u32 = 0x277;
/// IA32_DEBUGCTL, which AMD calls DebugCtl.
pub const IA32_DEBUGCTL: u32 = 0x1d9;
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
/// IA32_TSC_AUX: what RDTSCP and RDPID return in ecx, in ring 3 too.
const IA32_TSC_AUX: u32 = 0xc000_0103;
/// IA32_SYSENTER_CS.
pub const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_SYSENTER_ESP: u32 = 0x175;
const IA32_SYSENTER_EIP: u32 = 0x176;

/// The RFLAGS bits that SYSCALL clears (SDM 2B, SYSCALL), so that no flag that ring 3 set is in effect in ring 0
/// (invariant: RING-0-FLAGS):
///
/// - IF: until the entry has switched stacks, it runs on the user stack pointer, so no interrupt may arrive.
/// - TF: otherwise ring 3 could single-step ring 0, with a #DB after each instruction of the entry.
/// - DF: compiled code assumes that string instructions count upwards.
/// - AC: it disables SMAP, so an unintended kernel access to user memory would not fault.
/// - NT: it would make the next `iretq` fault.
/// - IOPL: it is always 0 in ring 3, and ring 0 needs no other value.
/// - RF: it would suppress a debug breakpoint on the first instruction.
/// - ID: it has no effect; cleared so that RFLAGS has the same value at every entry.
/// - CF, PF, AF, ZF, SF, OF: results of the user's last arithmetic instruction; cleared for the same reason as ID.
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

/// An MSR that does not hold the value written to it.
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

/// Programs this CPU's MSRs of the system-call path, reads each back and compares. `per_cpu` is the address of this
/// CPU's data, which becomes the GS base (invariant: GS-BASE); `syscall_entry` is the RIP that `syscall` loads.
///
/// # Errors
/// The first MSR that does not hold the value written to it. The CPU must then not run ring-3 code.
///
/// # Safety
/// `per_cpu` is the address of this CPU's `PerCpuData`. `syscall_entry` is the address of code that fulfils the
/// contract of the system-call entry point. No GS-relative access relies on another base.
pub unsafe fn program(per_cpu: u64, syscall_entry: u64) -> Result<(), MsrMismatch> {
    let table = [
        ("IA32_STAR", IA32_STAR, STAR),
        ("IA32_LSTAR", IA32_LSTAR, syscall_entry),
        // CSTAR is the entry point of `syscall` in compatibility mode, which needs a 32-bit code segment. The GDT has
        // none. Address 0 is never mapped, so an entry there would fault.
        ("IA32_CSTAR", IA32_CSTAR, 0),
        ("IA32_FMASK", IA32_FMASK, SFMASK.bits()),
        // A null CS makes SYSENTER fault with #GP (SDM 2B, SYSENTER).
        ("IA32_SYSENTER_CS", IA32_SYSENTER_CS, 0),
        ("IA32_SYSENTER_ESP", IA32_SYSENTER_ESP, 0),
        ("IA32_SYSENTER_EIP", IA32_SYSENTER_EIP, 0),
        ("IA32_GS_BASE", IA32_GS_BASE, per_cpu),
        // The `swapgs` of the first exit makes this value the user GS base.
        ("IA32_KERNEL_GS_BASE", IA32_KERNEL_GS_BASE, 0),
    ];
    // SAFETY: these MSRs exist on every x86-64 CPU. STAR's selectors are in the GDT, and the caller guarantees that the
    // entry and the GS base are valid.
    unsafe { write_and_compare(&table) }
}

/// Makes `syscall` enter `entry` on this CPU. Returns the entry point that it replaces.
///
/// # Panics
/// If the MSR does not hold the address.
///
/// # Safety
/// `entry` is the address of code that fulfils the contract of the system-call entry point, and [`program`] was called
/// on this CPU.
pub unsafe fn replace_syscall_entry(entry: u64) -> u64 {
    // SAFETY: every x86-64 CPU has this MSR, and reading it has no effect.
    let replaced = unsafe { Msr::new(IA32_LSTAR).read() };
    // SAFETY: the MSR exists, and the caller guarantees that the entry is valid.
    if let Err(error) = unsafe { write_and_compare(&[("IA32_LSTAR", IA32_LSTAR, entry)]) } {
        panic!("{error}");
    }
    replaced
}

/// Writes this CPU's number to IA32_TSC_AUX, reads it back and compares: `rdtscp` and `rdpid` tell ring 3 on which CPU
/// it runs. `features` are this CPU's features. A CPU that has neither instruction also lacks the MSR.
///
/// # Errors
/// The MSR does not hold the number.
pub fn program_number(features: Features, number: CpuId) -> Result<(), MsrMismatch> {
    if !features.tsc_aux {
        return Ok(());
    }
    // SAFETY: the CPU has the MSR, which only those two instructions use.
    unsafe { write_and_compare(&[("IA32_TSC_AUX", IA32_TSC_AUX, number.0.into())]) }
}

/// Writes each MSR of a table of (name, number, value), then reads each back and compares.
///
/// # Safety
/// The CPU has these MSRs, and the kernel works with these values.
unsafe fn write_and_compare(table: &[(&'static str, u32, u64)]) -> Result<(), MsrMismatch> {
    for &(_, number, value) in table {
        // SAFETY: the caller guarantees that the MSR exists and that the value is valid.
        unsafe { Msr::new(number).write(value) };
    }
    // SAFETY: the caller guarantees that the MSRs exist. Reading these has no effect.
    compare(table, |number| unsafe { Msr::new(number).read() })
}

/// Reads each MSR of a table of (name, number, expected value) and compares.
fn compare(table: &[(&'static str, u32, u64)], mut read: impl FnMut(u32) -> u64) -> Result<(), MsrMismatch> {
    for &(name, number, written) in table {
        let read = read(number);
        if read != written {
            return Err(MsrMismatch { name, written, read });
        }
    }
    Ok(())
}

/// Reads the GS base. Code that may run before the base is set uses this function to check whether per-CPU data is
/// available.
#[must_use]
pub fn gs_base() -> u64 {
    // SAFETY: every x86-64 CPU has this MSR, and reading it has no effect.
    unsafe { Msr::new(IA32_GS_BASE).read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the mask itself (SDM 1, 3.4.3): QEMU's TCG clears DF at `syscall` even if SFMASK does not contain it.
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
    fn msr_mismatch_is_reported_with_its_name() {
        let table = [("ONE", 1, 10), ("TWO", 2, 20), ("THREE", 3, 30)];
        assert_eq!(compare(&table, |number| u64::from(number) * 10), Ok(()));
        for &(name, wrong, written) in &table {
            let found = compare(&table, |number| u64::from(number) * 10 + u64::from(number == wrong));
            assert_eq!(found, Err(MsrMismatch { name, written, read: written + 1 }));
        }
    }
}
