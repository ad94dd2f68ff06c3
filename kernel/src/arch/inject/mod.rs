//! Failures, faults and interrupts that tests request on the command line. The rest of the kernel calls these functions
//! at named points, one line each. If nothing is requested, a call compares a few words at most,
//! which no other CPU writes.

mod alternate;
mod bring_up;
mod failures;
mod firmware;
mod floor;
mod interrupt_stress;
mod nmi_nesting;
mod nmi_to_self;
mod second_panic;
mod stray;
mod violation;

pub use self::alternate::program_starts;
pub use self::bring_up::ApFaults;
pub(in crate::arch) use self::bring_up::{stale_registers, stop_at};
pub use self::failures::at;
pub use self::firmware::break_tables;
pub use self::interrupt_stress::programs_ended;
pub use self::stray::unmask_line_of_pit;
pub(in crate::arch) use self::stray::{keeps_in_service, leave_interrupts};
use crate::arch::devices::uart;
use crate::arch::memory::loaded::Program;
use crate::arch::percpu::PerCpuData;
use crate::cmdline::{Options, Place, UartFault};

/// Copies the command line's requests to the data of a CPU that joins the run.
pub fn configure(cpu: &PerCpuData, options: &Options<'_>) {
    interrupt_stress::set(cpu, options.ipi_storm, options.nmi_storm);
    alternate::set_period(cpu, u64::from(options.trace.alternate_ms) * 1_000_000);
}

/// Handles the requests for the time after all CPUs have loaded their copies and before this CPU starts its own.
pub fn before_program(cpu: &PerCpuData, options: &Options<'_>, program: Option<&mut Program>) {
    if options.uart_fault.is_some() {
        uart::inject(options.uart_fault);
    }
    if options.nest_nmi {
        nmi_nesting::nest(cpu);
    }
    if options.stray_interrupts {
        stray::send_all(cpu);
    }
    floor::before_program(cpu, options.floor);
    second_panic::before_program(cpu, &options.failures);
    failures::before_program(cpu, &options.failures);
    if let (Some(program), Some(violation)) = (program, options.breach) {
        violation::violate(program, violation);
    }
}

/// Ends the requests that apply while programs run. Called when the programs have ended on all CPUs.
pub fn all_programs_ended(cpu: &PerCpuData, options: &Options<'_>) {
    interrupt_stress::all_programs_ended(cpu);
    if options.uart_fault == Some(UartFault::StuckInRing3) {
        uart::inject(None);
    }
}

/// Handles the requests for a timer tick.
pub(in crate::arch) fn tick(cpu: &PerCpuData, tick_hz: u32) {
    at(cpu, Place::Tick);
    interrupt_stress::tick(cpu, tick_hz);
}

/// Handles the requests for a timer tick that interrupted ring 3.
pub(in crate::arch) fn ring3_tick(cpu: &PerCpuData) {
    alternate::ring3_tick(cpu);
    floor::ring3_tick(cpu);
}

/// Handles the requests for an NMI. Called by the NMI handler. `unmask` unmasks NMIs.
#[inline]
pub(in crate::arch) fn nmi(cpu: &PerCpuData, unmask: impl Fn()) {
    nmi_nesting::nmi(cpu, unmask);
    second_panic::nmi(cpu);
    at(cpu, Place::Nmi);
}
