//! Interrupts that nothing in the kernel requests: left by the firmware, or sent by a CPU to itself.

use x86_64::instructions::port::Port;

use crate::arch::interrupts::apic::{SPURIOUS_VECTOR, TIMER_VECTOR, WAKE_VECTOR};
use crate::arch::interrupts::io_apic::IoApic;
use crate::arch::percpu::PerCpuData;
use crate::exception::MACHINE_CHECK;

/// The vectors of the interrupts that the firmware left in service and pending, and of the interrupt whose line it left
/// unmasked.
const LEFT_IN_SERVICE: u8 = 0x41;
const LEFT_PENDING: [u8; 2] = [0x31, 0x51];
const UNMASKED_LINE: u8 = 0x61;

/// Sets this CPU's local APIC as firmware may leave it, if that is requested: one interrupt in service, two pending,
/// and a task priority that blocks all interrupts. `take_pending` enables interrupts for one instruction.
pub(in crate::arch) fn leave_interrupts(cpu: &PerCpuData, take_pending: impl Fn()) {
    if !cpu.injected.stale.get() {
        return;
    }
    cpu.injected.keeps_in_service.set(true);
    send_to_self(cpu, LEFT_IN_SERVICE);
    take_pending();
    cpu.injected.keeps_in_service.set(false);
    // It was counted when it was taken.
    let _ = cpu.rare.take_strays();
    LEFT_PENDING.into_iter().for_each(|vector| send_to_self(cpu, vector));
    cpu.with_apic(|apic| apic.leave_task_priority());
}

/// Returns whether this CPU does not send an EOI for a stray interrupt.
pub(in crate::arch) fn keeps_in_service(cpu: &PerCpuData) -> bool {
    cpu.injected.keeps_in_service.get()
}

/// Unmasks the I/O APIC's line of the interval timer, which interrupts about 1000 times a second.
pub fn unmask_line_of_pit(io_apic: &IoApic) {
    // SAFETY: these are the interval timer's ports on every PC, and nothing else in the kernel uses channel 0.
    unsafe {
        Port::<u8>::new(0x43).write(0x34); // channel 0, low then high byte, mode 2 (rate generator), binary
        for byte in 1193_u16.to_le_bytes() {
            Port::<u8>::new(0x40).write(byte);
        }
    }
    // PCs route the interval timer to line 2, since line 0 is the legacy PICs'.
    io_apic.unmask(2, UNMASKED_LINE);
}

/// Sends this CPU an interrupt with each vector that the kernel does not use. The CPU takes them when it starts its
/// program.
pub(super) fn send_all(cpu: &PerCpuData) {
    let used = |vector| vector == TIMER_VECTOR || (WAKE_VECTOR..=SPURIOUS_VECTOR).contains(&vector);
    // The gate of #MC has an IST stack, whose handler ends the run.
    let vectors = (16..=u8::MAX).filter(|&vector| !used(vector) && u64::from(vector) != MACHINE_CHECK);
    vectors.for_each(|vector| send_to_self(cpu, vector));
}

fn send_to_self(cpu: &PerCpuData, vector: u8) {
    cpu.with_apic(|apic| apic.send_to_self(vector));
}
