//! Prints lines about one CPU: to that CPU's own UART if it has one, else to the console.
//!
//! A CPU whose program prints waits with interrupts on, for its turn at the console and for the UART: its ticks, and those
//! of the other CPUs, are not delayed. It prints nothing else meanwhile.

use core::fmt;
use core::hint::spin_loop;

use kernel_abi::record::Record;

use super::area::created;
use super::block::PerCpuData;
use crate::arch::devices::serial::{self, Line};
use crate::text::Text;
use crate::turns::Turns;

/// The CPUs with a line of a program for the console.
static TURNS: Turns = Turns::new();

/// How a CPU whose program prints waits. Each function returns soon, with interrupts off, after it has handled those that
/// were pending.
#[derive(Clone, Copy)]
pub struct Wait {
    /// Waits for an interrupt: for the one from the CPU before it, when it is this CPU's turn.
    pub halt: fn(&PerCpuData),
    /// Does not wait for one: the UART sends none.
    pub poll: fn(&PerCpuData),
}

/// Formats one line of the kernel and writes it; a longer line than the console takes is cut.
pub fn print_for(cpu: &PerCpuData, arguments: fmt::Arguments<'_>) {
    let line = Line::of(arguments);
    if cpu.printing.get() {
        // An interrupt has come while this CPU writes a line: its UART is in use.
        cpu.published.dropped.count(line.as_bytes().len());
        return;
    }
    report_dropped(cpu);
    cpu.published.dropped.count(send(cpu, &line));
}

/// A line of a program's output, after its CPU's prefix.
pub struct ProgramLine(Line);

impl ProgramLine {
    /// Copies the text.
    #[must_use]
    pub fn new(cpu: &PerCpuData, bytes: &[u8]) -> ProgramLine {
        let prefix = Text::<16>::of(format_args!("[cpu{}] ", cpu.id().0));
        ProgramLine(Line::new(prefix.as_str().as_bytes(), bytes))
    }

    /// Writes the line. No borrow of this CPU's data is held.
    pub fn write(&self, cpu: &PerCpuData, wait: Wait) {
        let line = &self.0;
        if cpu.uart.borrow().is_some() {
            report_dropped(cpu);
            cpu.printing.set(true);
            let mut uart = cpu.uart.borrow_mut();
            let dropped = uart.as_mut().map_or(0, |uart| uart.send(line.as_bytes(), || (wait.poll)(cpu)));
            cpu.published.dropped.count(dropped);
        } else {
            let me = cpu.area.index();
            TURNS.take(cpu.area.0, &cpu.published.waits_for_turn, || (wait.halt)(cpu));
            report_dropped(cpu);
            cpu.printing.set(true);
            cpu.published.dropped.count(serial::write_in_turn(line.as_bytes(), || (wait.poll)(cpu)));
            let others = || created().skip(me + 1).chain(created().take(me));
            TURNS.release(
                cpu.area.0,
                || others().map(|cpu| (cpu.area.0, &cpu.published.waits_for_turn)),
                |next| created().nth(next as usize).into_iter().for_each(|next| cpu.wake(next.apic_id)),
            );
        }
        cpu.printing.set(false);
    }
}

/// Sends a line to a CPU's UART, or else to the console. Returns how many bytes were dropped. A CPU's own UART needs no
/// lock: no other CPU writes it.
fn send(cpu: &PerCpuData, line: &Line) -> usize {
    match cpu.uart.borrow_mut().as_mut() {
        Some(uart) => uart.send(line.as_bytes(), spin_loop),
        None => serial::write(line.as_bytes()),
    }
}

/// Reports how many bytes of this CPU's output were dropped since the last report, if the UART takes the report.
pub fn report_dropped(cpu: &PerCpuData) {
    let dropped = &cpu.published.dropped;
    let new = dropped.unreported();
    if new == 0 {
        return;
    }
    let line = Line::of(format_args!(
        "[cpu{}] ringside: warning: {new} bytes of output were dropped, because the UART did not get ready in time",
        cpu.id().0
    ));
    if send(cpu, &line) == 0 {
        dropped.set_reported(new);
    }
}

/// Prints a record for each CPU of which output was dropped, and one for the output of [`serial::print`].
pub fn dropped_records() {
    let of_cpus = created().map(|cpu| (Some(cpu.id().0), cpu.published.dropped.bytes()));
    for (cpu, bytes) in of_cpus.chain([(None, serial::dropped())]).filter(|(_, bytes)| *bytes > 0) {
        serial::print(format_args!("{}", Record::Dropped { cpu, bytes }));
    }
}

/// Prints a line of the kernel with the prefix of the CPU that it is about.
#[macro_export]
macro_rules! say {
    ($cpu:expr, $($arguments:tt)+) => {
        $crate::arch::percpu::print::print_for($cpu, format_args!(
            "[cpu{}] ringside: {}", $cpu.id().0, format_args!($($arguments)+)
        ))
    };
}
