//! Records trace events. Two functions serve the system-call path; `PerCpuData::trace` serves all other code.

use core::arch::asm;
use core::mem::offset_of;

use kernel_abi::trace::Kind;

use super::block::PerCpuData;
use crate::arch::cpu::tsc;
use crate::arch::trace::Tracer;
use crate::frame::SyscallFrame;

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

/// Records the entry of a system call, before the result overwrites its number. Returns `cpu`, reloaded from the GS
/// base if a function was called, so that the system-call path need not keep the pointer in a callee-saved register.
#[inline(always)]
pub(in crate::arch) fn syscall_enter<'a>(frame: &SyscallFrame, cpu: &'a PerCpuData) -> &'a PerCpuData {
    if enabled!(Kind::SyscallEnter) {
        cpu.tracer.number.set(frame.rax);
        if cpu.tracer.is_near_full() {
            cpu.tracer.record_or_drop(Kind::SyscallEnter, frame.rax, frame.rdi);
            return PerCpuData::current();
        }
        cpu.tracer.put(Kind::SyscallEnter, frame.rax, frame.rdi, tsc::now);
    }
    cpu
}

/// Records the exit of a system call.
#[inline(always)]
pub(in crate::arch) fn syscall_exit(frame: &SyscallFrame) {
    if enabled!(Kind::SyscallExit) {
        // The exit event reads the TSC first and the entry event reads it last, so that a call's time does not include
        // the recording.
        let now = tsc::now();
        let tracer = &PerCpuData::current().tracer;
        if tracer.is_near_full() {
            tracer.record_or_drop(Kind::SyscallExit, tracer.number.get(), frame.rax);
        } else {
            tracer.put(Kind::SyscallExit, tracer.number.get(), frame.rax, || now);
        }
    }
}

impl PerCpuData {
    /// Records an event in this CPU's trace, if its kind is enabled.
    #[inline(always)]
    pub fn trace(&self, kind: Kind, a: u64, b: u64) {
        self.tracer.event(kind, a, b);
    }
}
