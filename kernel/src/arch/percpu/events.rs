//! Records trace events. Two functions serve the system-call path; `PerCpuData::trace` serves all other code.

use core::arch::asm;
use core::mem::offset_of;

use kernel_abi::trace::Kind;

use super::block::PerCpuData;
use crate::arch::trace::Tracer;

/// Returns whether the entry or the exit of system calls is recorded on this CPU. Takes two instructions and needs no
/// register, so that the system-call path keeps no pointer to the tracer.
#[inline(always)]
pub(in crate::arch) fn syscalls_enabled() -> bool {
    // SAFETY: the GS base is the address of this CPU's data (invariant: GS-BASE), and the word is only read.
    unsafe {
        asm!(
            "test dword ptr gs:[{kinds}], {bits}",
            "jnz {on}",
            kinds = const offset_of!(PerCpuData, tracer) + offset_of!(Tracer, kinds),
            bits = const Kind::SyscallEnter.bit() | Kind::SyscallExit.bit(),
            on = label { return true },
            options(nostack, readonly),
        );
    }
    false
}

/// Records the entry of a system call with this number and first argument, if the event's kind is enabled.
#[inline(always)]
pub(in crate::arch) fn syscall_enter(number: u64, argument: u64, cpu: &PerCpuData) {
    cpu.tracer.event(Kind::SyscallEnter, number, argument);
}

/// Records the exit of a system call with this number and result, if the event's kind is enabled.
#[inline(always)]
pub(in crate::arch) fn syscall_exit(number: u64, result: u64, cpu: &PerCpuData) {
    cpu.tracer.event(Kind::SyscallExit, number, result);
}

/// Records both events of a system call around `call`, which returns its result. Calls `near_full` instead if the next
/// record needs a check for room. Both kinds must be enabled.
#[inline(always)]
pub(in crate::arch) fn recorded(
    number: u64,
    argument: u64,
    call: impl FnOnce() -> u64,
    near_full: impl FnOnce() -> u64,
) -> u64 {
    PerCpuData::current().tracer.around(number, argument, call, near_full)
}

impl PerCpuData {
    /// Records an event in this CPU's trace, if its kind is enabled.
    #[inline(always)]
    pub fn trace(&self, kind: Kind, a: u64, b: u64) {
        self.tracer.event(kind, a, b);
    }
}
