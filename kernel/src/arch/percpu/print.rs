//! Prints lines about one CPU: to that CPU's own UART if it has one, else to the console.
//!
//! A CPU whose program prints waits with interrupts on, both for its turn at the console and for the UART, so that no
//! CPU's ticks are delayed. It prints nothing else while it waits.

use core::fmt;
use core::hint::spin_loop;

use kernel_abi::record::Record;

use super::area::created;
use super::block::PerCpuData;
use crate::arch::devices::serial::{self, Line};
use crate::plural::{Count, verb};
use crate::text::Text;
use crate::turns::Turns;

/// Gives turns at the console to the CPUs that have a line of program output.
static TURNS: Turns = Turns::new();

/// The functions that a CPU calls to wait while its program prints. Each returns with interrupts off, after pending
/// interrupts have been handled.
#[derive(Clone, Copy)]
pub struct Wait {
    /// Halts until an interrupt arrives. The CPU that passes the turn on sends one.
    pub halt: fn(&PerCpuData),
    /// Does not halt, because a lock and a UART send no interrupts.
    pub pause: fn(&PerCpuData),
    /// Does the same as `pause`, but is called while this CPU holds the console's lock, and always returns: if the CPU
    /// parked for a panic here, a panicking CPU that cannot send NMIs would wait for the lock. Without the CPU's data the
    /// function cannot park it.
    pub poll: fn(),
}

/// Formats one kernel line and writes it. A line longer than the console's maximum is truncated.
pub fn print_for(cpu: &PerCpuData, arguments: fmt::Arguments<'_>) {
    let line = Line::of(arguments);
    if cpu.printing.get() {
        // An interrupt has arrived while this CPU writes a line, so its UART is in use.
        cpu.published.dropped.count(line.as_bytes().len());
        return;
    }
    report_dropped(cpu);
    cpu.published.dropped.count(send(cpu, &line));
}

/// A line of program output, with the prefix of its CPU.
pub struct ProgramLine(Line);

impl ProgramLine {
    /// Creates the line from a copy of the text.
    #[must_use]
    pub fn new(cpu: &PerCpuData, bytes: &[u8]) -> ProgramLine {
        let prefix = Text::<16>::of(format_args!("[cpu{}] ", cpu.id().0));
        ProgramLine(Line::new(prefix.as_str().as_bytes(), bytes))
    }

    /// Writes the line. The caller must not hold a borrow of this CPU's data.
    pub fn write(&self, cpu: &PerCpuData, wait: Wait) {
        let line = &self.0;
        if cpu.uart.borrow().is_some() {
            cpu.printing.set(true);
            let mut uart = cpu.uart.borrow_mut();
            let mut send =
                |line: &Line| uart.as_mut().map_or(0, |uart| uart.send(line.as_bytes(), wait.poll));
            report_dropped_by(cpu, &mut send);
            cpu.published.dropped.count(send(line));
        } else {
            let me = cpu.area.index();
            TURNS.take(cpu.area.0, &cpu.published.waits_for_turn, || (wait.halt)(cpu));
            cpu.printing.set(true);
            let send = |line: &Line| serial::write_in_turn(line.as_bytes(), || (wait.pause)(cpu), wait.poll);
            report_dropped_by(cpu, send);
            cpu.published.dropped.count(send(line));
            let others = || created().skip(me + 1).chain(created().take(me));
            TURNS.release(
                cpu.area.0,
                || others().map(|cpu| (cpu.area.0, &cpu.published.waits_for_turn)),
                |next| created().nth(next as usize).into_iter().for_each(|next| cpu.wake(next.apic_id)),
            );
        }
        cpu.printing.set(false);
        report_apic_errors(cpu);
    }
}

/// Reports the errors of this CPU's local APIC, unless the CPU is writing a line: in that case, they are reported at
/// the end of the line.
pub fn report_apic_errors(cpu: &PerCpuData) {
    if !cpu.printing.get()
        && let Some(errors) = cpu.rare.take_apic_errors()
    {
        crate::say!(cpu, "local APIC error, status {errors:#04x}");
    }
}

/// Sends a line to a CPU's own UART if it has one, else to the console. Returns the number of bytes dropped. A CPU's
/// own UART needs no lock, because no other CPU writes to it.
fn send(cpu: &PerCpuData, line: &Line) -> usize {
    match cpu.uart.borrow_mut().as_mut() {
        Some(uart) => uart.send(line.as_bytes(), spin_loop),
        None => serial::write(line.as_bytes()),
    }
}

/// Reports the number of output bytes of this CPU that were dropped since the last report, if the UART accepts the
/// report.
pub fn report_dropped(cpu: &PerCpuData) {
    report_dropped_by(cpu, |line| send(cpu, line));
}

/// Reports as [`report_dropped`] does. `send` sends a line and returns the number of bytes dropped.
fn report_dropped_by(cpu: &PerCpuData, send: impl FnOnce(&Line) -> usize) {
    let dropped = &cpu.published.dropped;
    let new = dropped.unreported();
    if new == 0 {
        return;
    }
    let line = Line::of(format_args!(
        "[cpu{}] ringside: warning: {} of output {} dropped because the UART did not become ready in time",
        cpu.id().0,
        Count(new, "byte"),
        verb(new, "was", "were")
    ));
    if send(&line) == 0 {
        dropped.set_reported(new);
    }
}

/// Prints a record for each CPU that has dropped output, and one for dropped output of [`serial::print`].
pub fn dropped_records() {
    let of_cpus = created().map(|cpu| (Some(cpu.id().0), cpu.published.dropped.bytes()));
    for (cpu, bytes) in of_cpus.chain([(None, serial::dropped())]).filter(|(_, bytes)| *bytes > 0) {
        serial::print_record(&Record::Dropped { cpu, bytes });
    }
}

/// Prints a kernel warning with the prefix of the CPU that it concerns, and counts it for the verdict. Called by that
/// CPU.
#[macro_export]
macro_rules! warn {
    ($cpu:expr, $($arguments:tt)+) => {{
        $crate::say!($cpu, "warning: {}", format_args!($($arguments)+));
        $cpu.published.count_warning();
    }};
}

/// Prints a kernel message with the prefix of the CPU that it concerns.
#[macro_export]
macro_rules! say {
    ($cpu:expr, $($arguments:tt)+) => {
        $crate::arch::percpu::print::print_for($cpu, format_args!(
            "[cpu{}] ringside: {}", $cpu.id().0, format_args!($($arguments)+)
        ))
    };
}
