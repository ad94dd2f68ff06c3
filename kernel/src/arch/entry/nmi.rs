//! The non-maskable interrupt's handler.
//!
//! An NMI stays masked until the next `iretq`, whichever that is. The handler has one, its own; so a second NMI waits,
//! and finds the stack free.

use kernel_abi::trace::Kind;

use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::arch::provoke;
use crate::arch::task::idle;
use crate::frame::TrapFrame;

/// From the IST stack. Must not fault, print or wait: it may have come while this CPU held any lock. What
/// [`provoke`] makes it do are the exceptions, on demand.
pub(in crate::arch) fn handle(frame: &mut TrapFrame, cpu: &PerCpuData) {
    stop::park_if_stopping(cpu);
    let rip = frame.interrupted.rip;
    let taken = cpu.rare.count_nmi(rip);
    cpu.trace(Kind::Nmi, taken, rip);
    provoke::nmi(cpu);
    frame.interrupted.rip = idle::resume_after(rip);
}
