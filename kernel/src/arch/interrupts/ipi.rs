//! Interprocessor interrupts.

use core::arch::asm;
use core::hint::spin_loop;

use x2apic::lapic::{self, IpiAllShorthand};
use x86_64::registers::model_specific::Msr;

use super::apic::{LocalApic, WAKE_VECTOR};
use crate::cpu::ApicId;

// Register offsets in the xAPIC page (SDM 3A, table 11-1); the x2APIC MSR is 0x800 + offset / 16.
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;

// Fields of the interrupt command register (SDM 3A, figure 11-12).
/// Delivery mode NMI.
const NMI: u32 = 0b100 << 8;
/// Delivery mode INIT.
const INIT: u32 = 0b101 << 8;
/// Delivery mode start-up.
const STARTUP: u32 = 0b110 << 8;
/// The APIC has not sent the last IPI yet.
const SEND_PENDING: u32 = 1 << 12;
/// Level "assert". Every delivery mode except INIT level de-assert requires it (SDM 3A, 11.6.1).
const ASSERT: u32 = 1 << 14;
/// All CPUs but the sender; the destination is ignored.
const TO_OTHERS: u32 = 0b11 << 18;

impl LocalApic {
    /// Prepares a write to the ICR. In x2APIC mode the ICR is written with a WRMSR that does not wait for earlier stores,
    /// so the receiver could take the interrupt before it sees these stores (SDM 3A, 11.12.3). In xAPIC mode the write
    /// is itself a store, and x86 keeps stores in order, but the write is lost while the APIC is still sending an
    /// earlier IPI (SDM 3A, 11.6.1). [`send`](Self::send) waits after it has sent one, but an NMI may arrive before it
    /// has waited, and its handler sends IPIs too.
    fn prepare_to_send(&self) {
        if self.is_x2apic() {
            // SAFETY: the fences only order memory accesses.
            unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
        } else {
            self.wait_until_sent();
        }
    }

    /// Waits in xAPIC mode until the last IPI has been sent; x2APIC mode has no delivery status bit (SDM 3A, 11.12.9).
    /// The wait is bounded, so that an IPI that is never sent does not hang the sender.
    fn wait_until_sent(&self) {
        for _ in 0..1_000_000 {
            if self.read(COMMAND) & SEND_PENDING == 0 {
                return;
            }
            spin_loop();
        }
    }

    /// Sends an IPI: in x2APIC mode with `by_crate`, in xAPIC mode by writing `command`. `to` is ignored if the command
    /// has a shorthand.
    ///
    /// # Safety
    /// `by_crate` and `command` send the same IPI, and the receivers can take it.
    unsafe fn send(&mut self, by_crate: impl FnOnce(&mut lapic::LocalApic), command: u32, to: ApicId) {
        self.prepare_to_send();
        match &mut self.x2apic {
            Some(apic) => by_crate(apic),
            None => {
                self.write(COMMAND_HIGH, to.0 << 24);
                self.write(COMMAND, command | ASSERT);
                self.wait_until_sent();
            }
        }
    }

    /// Sends INIT to one CPU, which then waits for a start-up IPI.
    ///
    /// # Safety
    /// That CPU runs no kernel code, because INIT resets it.
    pub unsafe fn send_init(&mut self, to: ApicId) {
        // SAFETY: the caller guarantees that the CPU runs no kernel code.
        unsafe { self.send(|apic| apic.send_init_ipi(to.0), INIT, to) };
    }

    /// Sends a start-up IPI to one CPU, which then runs the real-mode code in page `vector`.
    ///
    /// # Safety
    /// The page contains the installed trampoline.
    pub unsafe fn send_sipi(&mut self, vector: u8, to: ApicId) {
        // SAFETY: the caller guarantees that the page contains the trampoline.
        unsafe { self.send(|apic| apic.send_sipi(vector, to.0), STARTUP | u32::from(vector), to) };
    }

    /// Sends the wake-up IPI to one CPU.
    pub fn wake(&mut self, to: ApicId) {
        // SAFETY: the vector has a gate on every CPU that is online, and its handler only sends the EOI.
        unsafe { self.send(|apic| apic.send_ipi(WAKE_VECTOR, to.0), WAKE_VECTOR.into(), to) };
    }

    /// Sends the wake-up IPI to all other CPUs.
    pub fn wake_others(&mut self) {
        let others = IpiAllShorthand::AllExcludingSelf;
        let command = TO_OTHERS | u32::from(WAKE_VECTOR);
        // SAFETY: the vector has a gate on every CPU that is online, and its handler only sends the EOI. A CPU that did
        // not come online has its APIC or interrupts disabled.
        unsafe { self.send(|apic| apic.send_ipi_all(WAKE_VECTOR, others), command, ApicId(0)) };
    }

    /// Sends an interrupt to this CPU.
    pub(in crate::arch) fn send_to_self(&mut self, vector: u8) {
        let to = self.id();
        // SAFETY: every vector has a gate.
        unsafe { self.send(|apic| apic.send_ipi(vector, to.0), vector.into(), to) };
    }

    /// Sends an NMI to this CPU. Takes a shared reference because the NMI may arrive before this function returns, and
    /// the NMI handler may call this function as well.
    pub fn send_nmi_to_self(&self) {
        // Use this CPU's id as the destination: the shorthand "self" is invalid with delivery mode NMI (SDM 3A, table
        // 11-3).
        let command = NMI | ASSERT;
        self.prepare_to_send();
        if self.is_x2apic() {
            // SAFETY: in x2APIC mode this MSR is the ICR of this CPU's APIC. The NMI has a gate with an IST stack.
            unsafe {
                Msr::new(0x800 + (COMMAND >> 4)).write(u64::from(self.id().0) << 32 | u64::from(command))
            };
        } else {
            self.write(COMMAND_HIGH, self.id().0 << 24);
            self.write(COMMAND, command);
        }
    }

    /// Sends an NMI to one CPU. That CPU must be online: under some emulators, an NMI makes a CPU that waits for its
    /// start-up IPI run at its reset vector.
    pub fn send_nmi(&mut self, to: ApicId) {
        // SAFETY: every CPU that is online has an NMI gate with an IST stack.
        unsafe { self.send(|apic| apic.send_nmi(to.0), NMI, to) };
    }
}
