//! Sends an NMI from a CPU to itself.

use crate::arch::percpu::PerCpuData;

/// Sends this CPU an NMI.
pub(super) fn nmi_to_self(cpu: &PerCpuData) {
    // Use a shared borrow: the NMI may arrive during the borrow, and the NMI handler may call this function.
    if let Some(apic) = cpu.apic.borrow().as_ref() {
        apic.send_nmi_to_self();
    }
}
