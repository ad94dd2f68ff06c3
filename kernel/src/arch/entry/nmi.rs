//! The NMI handler.
//!
//! The CPU masks NMIs until the next `iretq`, whichever code executes it. The handler does not fault, so the next
//! `iretq` is the one that ends the handler. A second NMI therefore stays pending until the IST stack is free again.

use kernel_abi::trace::Kind;

use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::arch::provoke;
use crate::arch::task::idle;
use crate::frame::TrapFrame;

/// Handles an NMI, on its IST stack. Must not fault, print or wait, because this CPU may hold any lock (invariant:
/// NMI-QUIET). The only exceptions are the failures that [`provoke`] injects on request.
pub(in crate::arch) fn handle(frame: &mut TrapFrame, cpu: &PerCpuData) {
    stop::park_if_stopping(cpu);
    let rip = frame.interrupted.rip;
    let taken = cpu.rare.count_nmi(rip);
    cpu.trace(Kind::Nmi, taken, rip);
    provoke::nmi(cpu);
    frame.interrupted.rip = idle::resume_after(rip);
}
