//! An NMI that a CPU sends to itself.

use crate::arch::percpu::PerCpuData;

/// Sends this CPU an NMI.
pub(super) fn nmi_to_self(cpu: &PerCpuData) {
    // A shared borrow: the NMI may arrive while it is held, and its handler may call this function.
    if let Some(apic) = cpu.apic.borrow().as_ref() {
        apic.send_nmi_to_self();
    }
}
