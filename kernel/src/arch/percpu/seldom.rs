//! What comes seldom and is told outside of its handler: NMIs, debug exceptions in ring 0, the local APIC's errors.

use core::sync::atomic::Ordering;

use super::PerCpuData;
use crate::arch::apic::LocalApic;
use crate::arch::entry;

impl PerCpuData {
    /// Counts an NMI, in its handler. Returns how many there have been.
    pub(in crate::arch) fn count_nmi(&self, rip: u64) -> u64 {
        self.nmi_rip.store(rip, Ordering::Relaxed);
        self.nmis.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Says what NMIs there were; their handler must not print.
    pub fn report_nmis(&self) {
        let taken = self.nmis.load(Ordering::Relaxed);
        if taken != self.nmis_reported.get() && !self.storm.explains_nmis() {
            let rip = self.nmi_rip.load(Ordering::Relaxed);
            say!(self, "{} NMI, the latest at RIP {rip:#x}", taken - self.nmis_reported.replace(taken));
        }
    }

    /// Counts a debug exception from ring 0, in its handler.
    pub(in crate::arch) fn count_debug(&self, rip: u64) {
        self.debugs.set((self.debugs.get().0 + 1, rip));
    }

    /// Says whether ring 0 was single-stepped, which the flags that `syscall` clears should make impossible.
    pub fn report_debugs(&self) {
        let (taken, rip) = self.debugs.get();
        if taken != 0 {
            let entry = rip == entry::syscall_entry as *const () as u64;
            let place = if entry { ", the first instruction of a system call's entry" } else { "" };
            say!(self, "warning: {taken} #DB in ring 0, the latest at RIP {rip:#x}{place}");
        }
    }

    /// The local APIC's error interrupt.
    pub(in crate::arch) fn apic_error(&self) {
        let errors = self.with_apic(LocalApic::take_errors).unwrap_or(0);
        say!(self, "local APIC error, status {errors:#04x}");
    }
}
