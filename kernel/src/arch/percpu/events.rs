//! Records trace events: those of the system-call path, and all others.

use core::arch::asm;
use core::mem::offset_of;

use kernel_abi::trace::Kind;

use super::block::PerCpuData;
use crate::arch::cpu::tsc;
use crate::arch::trace::Tracer;
use crate::frame::SyscallFrame;

/// Whether a kind of event is enabled on this CPU. Two instructions that need no register, so that the system-call path
/// keeps no pointer for it.
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

/// Records the entry of a system call, before its number is overwritten. Returns `cpu`, read from the GS base again if
/// a function was called, so that the system-call path need not keep it in a callee-saved register.
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
        // Read the TSC first here, and last at the entry, so that a call's time does not include the recording.
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
