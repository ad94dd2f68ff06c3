//! Reads, clears and enables the machine-check banks (SDM 3B, chapter 16).

use core::arch::x86_64::{__cpuid, CpuidResult};
use core::fmt;

use x86_64::registers::model_specific::Msr;

/// Bit in EDX of CPUID leaf 1: the CPU has machine-check banks.
const MCA: u32 = 1 << 14;
const IA32_MCG_CAP: u32 = 0x179;
const IA32_MCG_STATUS: u32 = 0x17a;
const IA32_MCG_CTL: u32 = 0x17b;
/// Bit in MCG_CAP: the CPU has MCG_CTL.
const MCG_CTL_P: u64 = 1 << 8;
/// Value of a control MSR that enables reporting of all errors.
const ALL_ERRORS: u64 = u64::MAX;
/// The status MSR of bank 0. The status MSR of bank n has this number plus 4 * n. The MSR after it holds the address of
/// the error, and the one before it is the bank's control MSR.
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
    /// Reads the first of this CPU's banks that holds an error. Returns `None` if the CPU has no banks or no bank holds
    /// an error.
    #[must_use]
    pub fn read() -> Option<MachineCheck> {
        (0..count(has_banks(), read_msr)).find_map(|bank| MachineCheck::of(bank, read_msr))
    }

    /// Reads a bank. Returns `None` if it holds no error.
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

/// Clears this CPU's banks and MCG_STATUS at boot, as SDM 3B, 16.8, requires: they keep their contents across a reset.
/// Otherwise a later report would name an old error instead of the new one, and a set MCIP would turn the next machine
/// check into a shutdown. Errors are passed to `report` before they are cleared. The function then enables reporting of
/// all errors in all banks: the control MSRs are 0 after a reset of a real CPU, and firmware may have cleared some bits
/// of them.
pub fn set_up(report: impl FnMut(&MachineCheck)) {
    // SAFETY: the function writes only MSRs that exist according to CPUID and IA32_MCG_CAP: 0 to the status MSRs, which
    // clears what they hold, and all ones to the control MSRs, which is always valid (SDM 3B, 16.3.2.1).
    let write = |number, value| unsafe { Msr::new(number).write(value) };
    clear_and_enable(has_banks(), has_bank_0_of_p6(&__cpuid(0), &__cpuid(1)), read_msr, write, report);
}

fn clear_and_enable(
    has_banks: bool,
    bank_0_of_p6: bool,
    read: impl Fn(u32) -> u64,
    mut write: impl FnMut(u32, u64),
    mut report: impl FnMut(&MachineCheck),
) {
    for bank in 0..count(has_banks, &read) {
        if let Some(stale) = MachineCheck::of(bank, &read) {
            report(&stale);
        }
        write(status_msr(bank), 0);
    }
    if !has_banks {
        return;
    }
    write(IA32_MCG_STATUS, 0);
    if read(IA32_MCG_CAP) & MCG_CTL_P != 0 {
        write(IA32_MCG_CTL, ALL_ERRORS);
    }
    for bank in u32::from(bank_0_of_p6)..count(has_banks, &read) {
        write(control_msr(bank), ALL_ERRORS);
    }
}

/// Returns whether the control MSR of bank 0 belongs to the firmware, as it does on Intel's family 6 below model 0x1a
/// (SDM 3B, 16.3.2.1).
fn has_bank_0_of_p6(leaf0: &CpuidResult, leaf1: &CpuidResult) -> bool {
    let is_intel = [leaf0.ebx, leaf0.edx, leaf0.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel";
    let family = leaf1.eax >> 8 & 0xf;
    let model = leaf1.eax >> 4 & 0xf | leaf1.eax >> 12 & 0xf0;
    is_intel && family == 6 && model < 0x1a
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

const fn control_msr(bank: u32) -> u32 {
    status_msr(bank) - 1
}

/// Reads an MSR of the machine-check architecture.
fn read_msr(number: u32) -> u64 {
    // SAFETY: the functions above read only MSRs that exist according to CPUID and IA32_MCG_CAP, and reading them has
    // no effect.
    unsafe { Msr::new(number).read() }
}

/// Writes an error to bank 1, as firmware or a warm reset may leave one, and disables reporting of all errors.
///
/// # Safety
/// The CPU has the bank and MCG_CTL, and allows such a write; real CPUs fault.
pub(in crate::arch) unsafe fn leave_stale() {
    // SAFETY: the caller guarantees that the writes do not fault. The contents of a status MSR have no effect until a
    // machine check occurs.
    unsafe {
        Msr::new(status_msr(1)).write(VALID | 0x151);
        Msr::new(IA32_MCG_CTL).write(0);
    }
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
        let mut clear = |number, value| {
            if value == 0 {
                cleared.push(number)
            }
        };
        clear_and_enable(true, false, msrs, &mut clear, |stale| reported.push(stale.bank));
        assert_eq!(cleared, [0x401, 0x405, 0x409, 0x40d, IA32_MCG_STATUS]);
        assert_eq!(reported, [2, 3]);
        let written = |number: u32, _| panic!("MSR {number:#x} is written");
        clear_and_enable(false, false, none, written, |_| panic!("there is no bank"));
    }

    #[test]
    fn all_errors_are_enabled() {
        let enabled = |cap: u64, bank_0_of_p6| {
            let (mut enabled, read) = (Vec::new(), |number| if number == IA32_MCG_CAP { cap } else { 0 });
            let mut enable = |number, value| {
                if value == ALL_ERRORS {
                    enabled.push(number)
                }
            };
            clear_and_enable(true, bank_0_of_p6, read, &mut enable, |_| panic!("there is no error"));
            enabled
        };
        assert_eq!(enabled(3, false), [0x400, 0x404, 0x408]);
        assert_eq!(enabled(3 | MCG_CTL_P, true), [IA32_MCG_CTL, 0x404, 0x408]);
    }

    #[test]
    fn bank_0_belongs_to_the_firmware_on_old_intel_cpus() {
        let of = |vendor: &[u8; 12], eax| {
            let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| vendor[at + n]));
            let leaf0 = CpuidResult { eax: 0, ebx: word(0), edx: word(4), ecx: word(8) };
            has_bank_0_of_p6(&leaf0, &CpuidResult { eax, ebx: 0, ecx: 0, edx: 0 })
        };
        assert!(of(b"GenuineIntel", 0x0001_067a), "Core 2, model 0x17");
        assert!(!of(b"GenuineIntel", 0x0001_06a5), "Nehalem, model 0x1a");
        assert!(!of(b"GenuineIntel", 0x0000_0f41) && !of(b"AuthenticAMD", 0x0000_0663));
    }
}
