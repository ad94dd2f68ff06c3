//! An NMI that a CPU sends to itself.

use crate::arch::percpu::PerCpuData;

/// Sends this CPU an NMI.
pub(super) fn nmi_to_self(cpu: &PerCpuData) {
    // A shared borrow: the NMI may come inside of it, and its handler may come here.
    if let Some(apic) = cpu.apic.borrow().as_ref() {
        apic.send_nmi_to_self();
    }
}
