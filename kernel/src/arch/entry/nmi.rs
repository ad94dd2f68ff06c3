//! The NMI handler.
//!
//! The CPU masks NMIs until the next `iretq`, whichever code executes it. The handler does not fault, so that is normally
//! the `iretq` that ends the handler. If an SMI unmasks NMIs earlier, `nmi_entry` defers a second NMI until the
//! handler has returned, and then runs the handler again.

use kernel_abi::trace::Kind;

use crate::arch::exit::points::unmask_nmis;
use crate::arch::inject;
use crate::arch::panic::stop;
use crate::arch::percpu::PerCpuData;
use crate::arch::task::idle;
use crate::frame::TrapFrame;

/// Handles an NMI, on its IST stack. Must not fault, print or wait, because this CPU may hold any lock (invariant:
/// NMI-QUIET). The only exceptions are the failures that [`inject`] injects on request.
pub(in crate::arch) fn handle(frame: &mut TrapFrame, cpu: &PerCpuData) {
    stop::park_if_stopping(cpu);
    let rip = frame.interrupted.rip;
    if is_nmi_entry(rip) && !frame.interrupted.from_user() {
        stop::end(format_args!("an NMI on {} arrived before the previous NMI had saved its frame", cpu.id()));
    }
    let taken = cpu.rare.nmis.count(rip, &cpu.tick_work);
    cpu.trace(Kind::Nmi, taken, rip);
    // SAFETY: the function only executes an `iretq` to its own return, and a nested NMI does not change
    // this handler's frame or stack (`nmi_entry`).
    inject::nmi(cpu, || unsafe { unmask_nmis() });
    frame.interrupted.rip = idle::resume_after(rip);
}

/// Returns whether an NMI that interrupted ring 0 at this address has overwritten the frame of the previous NMI.
fn is_nmi_entry(rip: u64) -> bool {
    (ringside_nmi_entry as *const () as u64..ringside_nmi_again as *const () as u64).contains(&rip)
}

unsafe extern "sysv64" {
    /// The first instruction of `nmi_entry`.
    fn ringside_nmi_entry();
    /// The part of `nmi_entry` that runs the handler: the frame has been copied.
    fn ringside_nmi_again();
}
