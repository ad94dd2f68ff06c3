//! Reads and clears the machine-check banks (SDM 3B, chapter 16).

use core::arch::x86_64::__cpuid;
use core::fmt;

use x86_64::registers::model_specific::Msr;

/// Bit in EDX of CPUID leaf 1: the CPU has machine-check banks.
const MCA: u32 = 1 << 14;
const IA32_MCG_CAP: u32 = 0x179;
const IA32_MCG_STATUS: u32 = 0x17a;
/// The status MSR of bank 0. The status MSR of bank n has this number plus 4 * n, and the MSR after it holds the
/// address of the error.
const IA32_MC0_STATUS: u32 = 0x401;
/// Bit in a bank's status: the bank holds an error.
const VALID: u64 = 1 << 63;
/// Bit in a bank's status: the bank's address MSR is valid.
const ADDRESS_VALID: u64 = 1 << 58;

/// A bank that holds an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCheck {
    bank: u32,
    status: u64,
    address: Option<u64>,
    global_status: u64,
}

impl MachineCheck {
    /// Reads the first of this CPU's banks that holds an error. `None` if the CPU has no banks or none holds one.
    #[must_use]
    pub fn read() -> Option<MachineCheck> {
        (0..count(has_banks(), read_msr)).find_map(|bank| MachineCheck::of(bank, read_msr))
    }

    /// Reads a bank. `None` if it holds no error.
    fn of(bank: u32, read: impl Fn(u32) -> u64) -> Option<MachineCheck> {
        let status = read(status_msr(bank));
        let address = (status & ADDRESS_VALID != 0).then(|| read(status_msr(bank) + 1));
        (status & VALID != 0).then(|| MachineCheck {
            bank,
            status,
            address,
            global_status: read(IA32_MCG_STATUS),
        })
    }
}

/// Clears this CPU's banks and MCG_STATUS at boot, as SDM 3B, 16.8, requires: they keep their contents over a reset. A
/// later report would name an old error instead of the new one, and a set MCIP would turn the next machine check into
/// a shutdown. Errors are passed to `report` first.
pub fn clear_stale(report: impl FnMut(&MachineCheck)) {
    // SAFETY: `clear` writes only MSRs that exist according to CPUID and IA32_MCG_CAP, and only 0, which is valid and
    // clears what they hold.
    clear(has_banks(), read_msr, |number| unsafe { Msr::new(number).write(0) }, report);
}

fn clear(
    has_banks: bool,
    read: impl Fn(u32) -> u64,
    mut write_0: impl FnMut(u32),
    mut report: impl FnMut(&MachineCheck),
) {
    for bank in 0..count(has_banks, &read) {
        if let Some(stale) = MachineCheck::of(bank, &read) {
            report(&stale);
        }
        write_0(status_msr(bank));
    }
    if has_banks {
        write_0(IA32_MCG_STATUS);
    }
}

fn has_banks() -> bool {
    __cpuid(1).edx & MCA != 0
}

/// Returns the number of banks, which the low 8 bits of MCG_CAP hold.
fn count(has_banks: bool, read: impl Fn(u32) -> u64) -> u32 {
    if has_banks { read(IA32_MCG_CAP) as u32 & 0xff } else { 0 }
}

const fn status_msr(bank: u32) -> u32 {
    IA32_MC0_STATUS + 4 * bank
}

/// Reads an MSR of the machine-check architecture.
fn read_msr(number: u32) -> u64 {
    // SAFETY: the functions above read only MSRs that exist according to CPUID and IA32_MCG_CAP, and reading them has
    // no effect.
    unsafe { Msr::new(number).read() }
}

/// Writes an error to bank 1, as firmware or a warm reset may leave one.
///
/// # Safety
/// The CPU has the bank and allows such a write; real CPUs fault.
pub(in crate::arch) unsafe fn leave_stale() {
    // SAFETY: the caller guarantees that the write does not fault. A status has no effect before a machine check.
    unsafe { Msr::new(status_msr(1)).write(VALID | 0x151) };
}

impl fmt::Display for MachineCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bank {}, status {:#x}", self.bank, self.status)?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        write!(f, ", MCG_STATUS {:#x}", self.global_status)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    /// A CPU with four banks, of which the last two hold errors.
    fn msrs(number: u32) -> u64 {
        match number {
            IA32_MCG_CAP => 0x1_0004,
            IA32_MCG_STATUS => 5,
            0x409 => VALID | 0x151,
            0x40d => VALID | ADDRESS_VALID | 0x136,
            0x40e => 0x1000,
            // The status MSR of a fifth bank, which MCG_CAP does not count: it must not be read as an error.
            0x411 => VALID,
            _ => 0,
        }
    }

    fn none(number: u32) -> u64 {
        panic!("MSR {number:#x} is read on a CPU without banks")
    }

    #[test]
    fn bank_with_an_error_is_read_completely() {
        let banks: Vec<_> =
            (0..4).map(|bank| MachineCheck::of(bank, msrs).map(|bank| bank.to_string())).collect();
        assert_eq!(banks[..2], [None, None]);
        assert_eq!(banks[2].as_deref(), Some("bank 2, status 0x8000000000000151, MCG_STATUS 0x5"));
        let last = "bank 3, status 0x8400000000000136, address 0x1000, MCG_STATUS 0x5";
        assert_eq!(banks[3].as_deref(), Some(last));
        assert_eq!((count(true, msrs), count(false, none)), (4, 0));
    }

    #[test]
    fn stale_banks_are_reported_and_all_are_cleared() {
        let (mut cleared, mut reported) = (Vec::new(), Vec::new());
        clear(true, msrs, |number| cleared.push(number), |stale| reported.push(stale.bank));
        assert_eq!(cleared, [0x401, 0x405, 0x409, 0x40d, IA32_MCG_STATUS]);
        assert_eq!(reported, [2, 3]);
        clear(false, none, |number| panic!("MSR {number:#x} is written"), |_| panic!("there is no bank"));
    }
}
