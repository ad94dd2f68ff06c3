//! Sends the EOI (end of interrupt), as every tick does. The EOI is separate from [`LocalApic`] for speed: `LocalApic`
//! is in a `RefCell` and gets the APIC's mode from the `x2apic` crate, but an EOI needs only one word of state. It
//! takes seven instructions in x2APIC mode and four in xAPIC mode.

use core::ptr;

use x86_64::registers::model_specific::Msr;

use super::apic::{END_OF_INTERRUPT, LocalApic};
use crate::layout::APIC_REGISTERS;

/// The state for sending a CPU's EOI: the address of the EOI register in xAPIC mode; 0 in x2APIC mode.
#[derive(Clone, Copy, Default)]
pub(in crate::arch) struct Eoi(u64);

impl Eoi {
    /// Returns the state for sending this CPU's EOI. The CPU's APIC is enabled.
    pub fn of(apic: &LocalApic) -> Eoi {
        Eoi(if apic.is_x2apic() { 0 } else { APIC_REGISTERS + u64::from(END_OF_INTERRUPT) })
    }

    /// Sends the EOI for the interrupt in service. Call it once for each interrupt except a spurious one.
    #[inline(always)]
    pub fn send(self) {
        // SAFETY: the local APIC is enabled: either the caller has made this value from its `LocalApic`, or an interrupt
        // has arrived, and the CPU set `PerCpuData::eoi` before it first enabled interrupts (invariant: IF-OFF). In
        // x2APIC mode 0x80b is the MSR of the EOI register (SDM 3A, table 11-6), and 0 is its only valid value. In xAPIC
        // mode the registers are mapped, as device memory. The write changes no memory.
        unsafe {
            if self.0 == 0 {
                Msr::new(0x800 + (END_OF_INTERRUPT >> 4)).write(0);
            } else {
                ptr::with_exposed_provenance_mut::<u32>(self.0 as usize).write_volatile(0);
            }
        }
    }
}
