//! Waiting without spinning: the only place where ring 0 has interrupts on.

use core::arch::naked_asm;

use kernel_abi::trace::Kind;

use crate::arch::panic::{rare, stop};
use crate::arch::percpu::PerCpuData;
use crate::arch::provoke;
use crate::cmdline::Place;

/// Halts this CPU until the condition holds. It is looked at with interrupts off, and `sti` takes effect only
/// after the `hlt` behind it has begun (SDM 2B, STI), so that no wake-up falls in between; an NMI that does goes on
/// behind the `hlt`, see [`resume_after`]. Whoever makes the condition true sends an interrupt.
pub fn idle_until(cpu: &PerCpuData, condition: impl Fn() -> bool) {
    while !condition() {
        cpu.trace(Kind::IdleIn, 0, 0);
        // SAFETY: interrupts are off, the IDT is loaded before any CPU idles, and the condition holds no lock.
        unsafe { halt() };
        cpu.trace(Kind::IdleOut, 0, 0);
        rare::report_nmis(cpu);
        stop::park_if_stopping(cpu);
        provoke::at(cpu, Place::Idle);
    }
}

/// Halts this CPU for good, but for interrupts.
pub fn idle(cpu: &PerCpuData) -> ! {
    idle_until(cpu, || false);
    unreachable!("the condition never holds")
}

/// Lets one interrupt in.
///
/// Given: ring 0, interrupts off, nothing held. Leaves: interrupts off.
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
    fn ringside_idle_hlt();
    fn ringside_idle_resume();
}

/// Where an NMI that struck at `rip` lets the interrupted code go on. Its `iretq` ends the shadow of `sti`: a wake-up
/// that is pending would be taken in front of the `hlt`, which then sleeps on. Behind it, the condition is looked at
/// again.
#[must_use]
pub(in crate::arch) fn resume_after(rip: u64) -> u64 {
    if rip == ringside_idle_hlt as *const () as u64 { ringside_idle_resume as *const () as u64 } else { rip }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nmi_in_front_of_the_halt_goes_on_behind_it() {
        let (hlt, resume) = (ringside_idle_hlt as *const () as u64, ringside_idle_resume as *const () as u64);
        // `sti` has one byte.
        assert_eq!(hlt, halt as *const () as u64 + 1);
        assert_eq!(resume_after(hlt), resume);
        for rip in [hlt - 1, resume, resume + 1, 0] {
            assert_eq!(resume_after(rip), rip);
        }
    }
}
