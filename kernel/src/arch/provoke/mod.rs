//! What tests make the kernel do on demand. The rest of the kernel calls these functions at named points, one line each;
//! while nothing is asked for, a call costs the comparison of a word of the CPU's own data.

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

/// A CPU joins the run: takes over what the command line asks for.
pub fn configure(cpu: &PerCpuData, options: &Options<'_>) {
    interrupt_stress::set(cpu, options.ipi_storm, options.nmi_storm);
    cpu.provoked.alternation.set_period(u64::from(options.trace.alternate_ms) * 1_000_000);
}

/// All CPUs have loaded their copies, and none has started its own.
pub fn before_program(cpu: &PerCpuData, options: &Options<'_>, program: Option<&mut Program>) {
    if options.nest_nmi {
        nmi_nesting::nest(cpu);
    }
    failures::before_program(cpu, &options.failures);
    if let (Some(program), Some(breach)) = (program, options.breach) {
        violation::violate(program, breach);
    }
}

/// A timer tick.
#[inline]
pub(in crate::arch) fn tick(cpu: &PerCpuData, tick_hz: u32) {
    at(cpu, Place::Tick);
    interrupt_stress::tick(cpu, tick_hz);
}

/// In the NMI's handler.
#[inline]
pub(in crate::arch) fn nmi(cpu: &PerCpuData) {
    nmi_nesting::nmi(cpu);
    at(cpu, Place::Nmi);
}
