//! What the machine-check banks say (SDM 3B, chapter 16).

use core::arch::x86_64::__cpuid;
use core::fmt;

use x86_64::registers::model_specific::Msr;

/// CPUID leaf 1, EDX: the banks are there.
const MCA: u32 = 1 << 14;
const IA32_MCG_CAP: u32 = 0x179;
const IA32_MCG_STATUS: u32 = 0x17a;
/// Bank n's status is 4 * n further, its address in the MSR behind that.
const IA32_MC0_STATUS: u32 = 0x401;
/// Bits of a bank's status: it holds an error; its address register is filled in.
const VALID: u64 = 1 << 63;
const ADDRESS_VALID: u64 = 1 << 58;

/// The first bank with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCheck {
    bank: u32,
    status: u64,
    address: Option<u64>,
    global_status: u64,
}

impl MachineCheck {
    /// Looks at this CPU's banks; `None`: there are none, or none has an error.
    #[must_use]
    pub fn read() -> Option<MachineCheck> {
        // SAFETY: only called with numbers of MSRs that are there, by CPUID and by IA32_MCG_CAP; reading them changes
        // nothing.
        find(__cpuid(1).edx & MCA != 0, |number| unsafe { Msr::new(number).read() })
    }
}

fn find(has_banks: bool, read: impl Fn(u32) -> u64) -> Option<MachineCheck> {
    if !has_banks {
        return None;
    }
    // The low 8 bits of MCG_CAP count the banks.
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
    fn the_first_bank_with_an_error_is_told() {
        let msrs = |number| match number {
            IA32_MCG_CAP => 0x1_0004,
            IA32_MCG_STATUS => 5,
            0x40d => VALID | ADDRESS_VALID | 0x136,
            0x40e => 0x1000,
            // No fifth bank: the error behind it is not one.
            0x411 => VALID,
            _ => 0,
        };
        let found = find(true, msrs).map(|found| found.to_string());
        assert_eq!(
            found.as_deref(),
            Some("bank 3, status 0x8400000000000136, address 0x1000, MCG_STATUS 0x5")
        );
        assert_eq!(find(false, |_| panic!("there are no banks to read")), None);
        assert_eq!(find(true, |number| if number == IA32_MCG_CAP { 4 } else { 0 }), None);
    }
}
