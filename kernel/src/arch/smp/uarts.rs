//! Assigns each CPU its own serial port (`serial=percpu`).

use crate::arch::devices::uart::{self, Uart};
use crate::arch::percpu::PerCpuData;
use crate::plural::Count;

/// Assigns serial ports to CPUs until no port is left. The BSP uses the console's port and gets no other.
pub(super) struct Uarts<I> {
    ports: I,
    /// The number of CPUs for which no port was left.
    without: u64,
}

/// Finds all UARTs except the console's.
pub(super) fn others() -> Uarts<impl Iterator<Item = (uart::Place, Uart)>> {
    Uarts { ports: uart::others(), without: 0 }
}

impl<I: Iterator<Item = (uart::Place, Uart)>> Uarts<I> {
    /// Assigns the next port to a CPU that is not running yet.
    pub fn assign(&mut self, bsp: &PerCpuData, cpu: &PerCpuData) {
        let Some((port, uart)) = self.ports.next() else {
            self.without += 1;
            return;
        };
        say!(
            bsp,
            "the CPU at position {} in the list of CPUs ({}) uses this serial port: {port}",
            cpu.area.0,
            cpu.apic_id
        );
        *cpu.uart.borrow_mut() = Some(uart);
    }

    /// Reports the CPUs without a port.
    pub fn report(&self, bsp: &PerCpuData) {
        if self.without > 0 {
            say!(bsp, "no serial port is left for {}: the console is shared", Count(self.without, "CPU"));
        }
    }
}
