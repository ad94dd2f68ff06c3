//! Prints lines about one CPU: to that CPU's own UART if it has one, else to the console.

use core::fmt;

use super::block::PerCpuData;
use crate::arch::devices::serial::{self, LINE_MAX, with_line_end};
use crate::text::Text;

/// Formats one line and writes it; a line longer than [`LINE_MAX`] is cut.
pub fn print_for(cpu: &PerCpuData, arguments: fmt::Arguments<'_>) {
    let line = Text::<{ LINE_MAX - 1 }>::of(arguments);
    with_line_end(line.as_str().as_bytes(), &[], |line| write_for(cpu, line));
}

/// Writes one line of a program's output, after its CPU's prefix.
pub fn write_program_line(cpu: &PerCpuData, bytes: &[u8]) {
    let prefix = Text::<16>::of(format_args!("[cpu{}] ", cpu.id().0));
    with_line_end(prefix.as_str().as_bytes(), bytes, |line| write_for(cpu, line));
}

/// Writes text to a CPU's UART, or else to the console. A CPU's own UART needs no lock: no other CPU writes it.
fn write_for(cpu: &PerCpuData, text: &[u8]) {
    match cpu.uart.borrow_mut().as_mut() {
        Some(uart) => uart.send_bytes_exact(text),
        None => serial::write(text),
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
