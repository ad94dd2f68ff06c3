//! Waits with interrupts on. This is the only place where ring 0 enables interrupts.

use core::arch::naked_asm;

use kernel_abi::trace::Kind;

use crate::arch::inject;
use crate::arch::panic::{rare, stop};
use crate::arch::percpu::PerCpuData;
use crate::arch::percpu::print::Wait;
use crate::cmdline::Place;

/// Halts this CPU until the condition holds. The CPU that makes the condition true must send this CPU an interrupt.
///
/// No wakeup is lost: the condition is checked with interrupts off, and `sti` takes effect only after the next
/// instruction, the `hlt` (SDM 2B, STI). An NMI that arrives between the two returns to the instruction after the
/// `hlt` (see [`resume_after`]).
pub fn idle_until(cpu: &PerCpuData, condition: impl Fn() -> bool) {
    while !condition() {
        cpu.trace(Kind::IdleIn, 0, 0);
        // SAFETY: the IDT is loaded before any CPU idles, interrupts are off, and no lock or borrow is held (invariant:
        // IF-OFF).
        unsafe { halt() };
        cpu.trace(Kind::IdleOut, 0, 0);
        rare::report_nmis(cpu);
        stop::park_if_stopping(cpu);
        inject::at(cpu, Place::Idle);
    }
}

/// Halts this CPU permanently. The CPU still handles interrupts.
pub fn idle(cpu: &PerCpuData) -> ! {
    idle_until(cpu, || false);
    unreachable!("a permanently halted CPU has resumed")
}

/// The functions that wait for the console and the UART on behalf of a program that prints. The caller holds no borrow
/// of per-CPU data that an interrupt handler uses, and no lock that a handler takes.
pub const PRINTING: Wait = Wait {
    halt: |cpu| {
        // SAFETY: the IDT is loaded before a program runs, interrupts are off, and interrupt handlers use no lock or
        // borrow that is held (invariant: IF-OFF).
        unsafe { halt() };
        stop::park_if_stopping(cpu);
    },
    pause: |cpu| {
        // SAFETY: the conditions for `halt` above hold here too. In addition, a handler does not print while this CPU
        // is printing (`PerCpuData::printing`).
        unsafe { take_interrupts() };
        stop::park_if_stopping(cpu);
    },
    // SAFETY: the conditions for `pause` above hold here too.
    poll: || unsafe { take_interrupts() },
};

/// Handles the pending interrupts, during the boot. The caller holds no lock and no borrow of per-CPU data.
pub(in crate::arch) fn take_pending() {
    // SAFETY: the IDT is loaded, interrupts are off, and no lock or borrow is held (invariant: IF-OFF).
    unsafe { take_interrupts() }
}

/// Enables interrupts for two instructions, so that pending interrupts are handled. They are taken after the first of
/// the two at the earliest, because STI blocks them for one instruction (SDM 2B, STI). The first instruction is not
/// PAUSE, because QEMU before version 9 does not end this delay after PAUSE.
///
/// On entry and return: the same conditions as for [`halt`].
#[unsafe(naked)]
unsafe extern "sysv64" fn take_interrupts() {
    naked_asm!("sti", "nop", "pause", "cli", "ret")
}

/// Enables interrupts and halts until one has been handled.
///
/// On entry: ring 0; interrupts off; no lock or borrow held that an interrupt handler uses.
///
/// On return: interrupts off.
#[unsafe(naked)]
unsafe extern "sysv64" fn halt() {
    naked_asm!(
        "sti",
        ".globl ringside_idle_hlt",
        "ringside_idle_hlt:",
        "hlt",
        ".globl ringside_idle_resume",
        "ringside_idle_resume:",
        "cli",
        "ret",
    )
}

unsafe extern "sysv64" {
    /// The `hlt` of [`halt`].
    fn ringside_idle_hlt();
    /// The instruction after the `hlt`.
    fn ringside_idle_resume();
}

/// Returns the address at which the code that an NMI interrupted at `rip` must resume. The NMI's `iretq` ends the
/// interrupt shadow of `sti`, so a pending wake-up IPI would be taken before the `hlt`, and the CPU would then halt
/// although no other wake-up follows. Resuming after the `hlt` makes the CPU check the condition again.
#[must_use]
pub(in crate::arch) fn resume_after(rip: u64) -> u64 {
    if rip == ringside_idle_hlt as *const () as u64 { ringside_idle_resume as *const () as u64 } else { rip }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nmi_at_hlt_resumes_after_it() {
        let (hlt, resume) = (ringside_idle_hlt as *const () as u64, ringside_idle_resume as *const () as u64);
        // `sti` is one byte long.
        assert_eq!(hlt, halt as *const () as u64 + 1);
        assert_eq!(resume_after(hlt), resume);
        for rip in [hlt - 1, resume, resume + 1, 0] {
            assert_eq!(resume_after(rip), rip);
        }
    }
}
