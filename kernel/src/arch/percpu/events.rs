//! Records trace events. Two functions serve the system-call path; `PerCpuData::trace` serves all other code.

use core::arch::asm;
use core::mem::offset_of;

use kernel_abi::trace::Kind;

use super::block::PerCpuData;
use crate::arch::cpu::tsc;
use crate::arch::trace::Tracer;

/// Tests whether a kind of event is enabled on this CPU. Expands to two instructions that need no register, so that the
/// system-call path keeps no pointer to the tracer.
macro_rules! enabled {
    ($kind:expr) => {
        'enabled: {
            // SAFETY: the GS base is the address of this CPU's data (invariant: GS-BASE), and the word is only read.
            unsafe {
                asm!(
                    "test dword ptr gs:[{kinds}], {bit}",
                    "jnz {on}",
                    kinds = const offset_of!(PerCpuData, tracer) + offset_of!(Tracer, kinds),
                    bit = const $kind.bit(),
                    on = label { break 'enabled true },
                    options(nostack, readonly),
                );
            }
            false
        }
    };
}

/// Records the entry of a system call with this number and first argument, if the event's kind is enabled. Returns `cpu`, reloaded from the GS
/// base if a function was called, so that the system-call path need not keep the pointer in a callee-saved register.
#[inline(always)]
pub(in crate::arch) fn syscall_enter(number: u64, argument: u64, cpu: &PerCpuData) -> &PerCpuData {
    if enabled!(Kind::SyscallEnter) {
        cpu.tracer.number.set(number);
        if cpu.tracer.is_near_full() {
            cpu.tracer.record_or_drop(Kind::SyscallEnter, number, argument);
            return PerCpuData::current();
        }
        cpu.tracer.put(Kind::SyscallEnter, number, argument, tsc::halves);
    }
    cpu
}

/// Records the exit of a system call with this result, if the event's kind is enabled.
#[inline(always)]
pub(in crate::arch) fn syscall_exit(result: u64) {
    if enabled!(Kind::SyscallExit) {
        // The exit event reads the TSC first and the entry event reads it last, so that a call's time does not include
        // the recording.
        let now = tsc::halves();
        let tracer = &PerCpuData::current().tracer;
        if tracer.is_near_full() {
            tracer.record_or_drop(Kind::SyscallExit, tracer.number.get(), result);
        } else {
            tracer.put(Kind::SyscallExit, tracer.number.get(), result, || now);
        }
    }
}

/// Records both events of a system call around `call`, which returns its result. Calls `near_full` instead if the next
/// record needs a check for room.
///
/// Both kinds must be enabled. There is one check for both events; see the trace ring's slack.
#[inline(always)]
pub(in crate::arch) fn recorded(
    number: u64,
    argument: u64,
    call: impl FnOnce() -> u64,
    near_full: impl FnOnce() -> u64,
) -> u64 {
    let tracer = &PerCpuData::current().tracer;
    if tracer.is_near_full() {
        return near_full();
    }
    tracer.put(Kind::SyscallEnter, number, argument, tsc::halves);
    let result = call();
    // The exit event reads the TSC first and the entry event reads it last, so that a call's time does not include the
    // recording.
    let now = tsc::halves();
    tracer.put(Kind::SyscallExit, number, result, || now);
    result
}

impl PerCpuData {
    /// Records an event in this CPU's trace, if its kind is enabled.
    #[inline(always)]
    pub fn trace(&self, kind: Kind, a: u64, b: u64) {
        self.tracer.event(kind, a, b);
    }
}
