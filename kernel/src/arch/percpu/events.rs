//! The events in a CPU's trace: those of the system-call path, and all others.

use core::arch::asm;
use core::mem::offset_of;

use kernel_abi::trace::Kind;

use super::block::PerCpuData;
use crate::arch::cpu::tsc;
use crate::arch::trace::Tracer;
use crate::frame::SyscallFrame;

/// Is this kind enabled on this CPU? Two instructions, and no register of the syscall road.
macro_rules! enabled {
    ($kind:expr) => {
        'enabled: {
            // SAFETY: ring 0's GS base is this CPU's data; the word is only read.
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

/// On the way in, before the call's number is overwritten. Gives `cpu` back, from the GS base where a function was called,
/// so that the road need not keep it in a register of its own.
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

/// On the way out.
#[inline(always)]
pub(in crate::arch) fn syscall_exit(frame: &SyscallFrame) {
    if enabled!(Kind::SyscallExit) {
        // At first, as the way in asks at last: what recording takes is not in a call's time.
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
