//! Failures, faults and interrupts that tests request on the command line. The rest of the kernel calls these functions
//! at named points, one line each. If nothing is requested, a call compares one or two words,
//! which no other CPU writes.

mod alternate;
mod bring_up;
mod failures;
mod interrupt_stress;
mod nmi_nesting;
mod nmi_to_self;
mod violation;

pub use self::alternate::program_starts;
pub(in crate::arch) use self::alternate::ring3_tick;
pub use self::bring_up::ApFaults;
pub use self::failures::at;
pub use self::interrupt_stress::{all_programs_ended, programs_ended};
use crate::arch::memory::loaded::Program;
use crate::arch::percpu::PerCpuData;
use crate::cmdline::{Options, Place};

/// Copies the requests of the command line to a CPU that joins the run.
pub fn configure(cpu: &PerCpuData, options: &Options<'_>) {
    interrupt_stress::set(cpu, options.ipi_storm, options.nmi_storm);
    cpu.provoked.alternation.set_period(u64::from(options.trace.alternate_ms) * 1_000_000);
}

/// Does what is requested for the time when all CPUs have loaded their copies and this one has not started its own.
pub fn before_program(cpu: &PerCpuData, options: &Options<'_>, program: Option<&mut Program>) {
    if options.nest_nmi {
        nmi_nesting::nest(cpu);
    }
    failures::before_program(cpu, &options.failures);
    if let (Some(program), Some(violation)) = (program, options.breach) {
        violation::violate(program, violation);
    }
}

/// Does what is requested for a timer tick.
#[inline]
pub(in crate::arch) fn tick(cpu: &PerCpuData, tick_hz: u32) {
    at(cpu, Place::Tick);
    interrupt_stress::tick(cpu, tick_hz);
}

/// Does what is requested for an NMI, in its handler.
#[inline]
pub(in crate::arch) fn nmi(cpu: &PerCpuData) {
    nmi_nesting::nmi(cpu);
    at(cpu, Place::Nmi);
}
