//! Reads the machine-check banks (SDM 3B, chapter 16).

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

/// The first bank that holds an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCheck {
    bank: u32,
    status: u64,
    address: Option<u64>,
    global_status: u64,
}

impl MachineCheck {
    /// Reads this CPU's banks. `None` if the CPU has no banks or no bank holds an error.
    #[must_use]
    pub fn read() -> Option<MachineCheck> {
        // SAFETY: `find` reads only MSRs that exist according to CPUID and IA32_MCG_CAP, and reading them has no
        // effect.
        find(__cpuid(1).edx & MCA != 0, |number| unsafe { Msr::new(number).read() })
    }
}

fn find(has_banks: bool, read: impl Fn(u32) -> u64) -> Option<MachineCheck> {
    if !has_banks {
        return None;
    }
    // The low 8 bits of MCG_CAP hold the number of banks.
    (0..read(IA32_MCG_CAP) as u32 & 0xff).find_map(|bank| {
        let status = read(IA32_MC0_STATUS + 4 * bank);
        let address = (status & ADDRESS_VALID != 0).then(|| read(IA32_MC0_STATUS + 4 * bank + 1));
        (status & VALID != 0).then(|| MachineCheck {
            bank,
            status,
            address,
            global_status: read(IA32_MCG_STATUS),
        })
    })
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

    use super::*;

    #[test]
    fn first_bank_with_an_error_is_reported() {
        let msrs = |number| match number {
            IA32_MCG_CAP => 0x1_0004,
            IA32_MCG_STATUS => 5,
            0x40d => VALID | ADDRESS_VALID | 0x136,
            0x40e => 0x1000,
            // The status MSR of a fifth bank, which MCG_CAP does not count: it must not be read as an error.
            0x411 => VALID,
            _ => 0,
        };
        let found = find(true, msrs).map(|found| found.to_string());
        assert_eq!(
            found.as_deref(),
            Some("bank 3, status 0x8400000000000136, address 0x1000, MCG_STATUS 0x5")
        );
        assert_eq!(find(false, |_| panic!("an MSR is read on a CPU without banks")), None);
        assert_eq!(find(true, |number| if number == IA32_MCG_CAP { 4 } else { 0 }), None);
    }
}
