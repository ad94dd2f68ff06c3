//! Decides whether a UART responds at an I/O port, in bounded time.
#![forbid(unsafe_code)]

/// The time that a UART may take to send the bytes that the firmware has left in it, in TSC ticks: at least a quarter
/// of a second on any CPU. At 9600 baud, 16 bytes take 17 ms.
pub const TIMEOUT: u64 = 1 << 30;

/// Offsets of registers (16550 data sheet, table II).
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const MODEM_STATUS: u16 = 6;

/// The line status bit "transmitter empty": the FIFO and the shift register are empty.
const TRANSMITTER_EMPTY: u8 = 1 << 6;
/// In loop-back mode, the outputs RTS and OUT2 are connected to the inputs CTS and DCD.
const LOOP_RTS_OUT2: u8 = 1 << 4 | 1 << 1 | 1 << 3;
const CTS_DCD: u8 = 1 << 4 | 1 << 7;
/// The modem status bits that are inputs.
const INPUTS: u8 = 0xf0;

/// The registers of a UART.
pub trait Registers {
    /// Reads a register.
    fn read(&mut self, offset: u16) -> u8;

    /// Writes a register.
    fn write(&mut self, offset: u16, value: u8);

    /// Returns the current time in TSC ticks.
    fn now(&self) -> u64;
}

/// Returns whether a working UART responds. First waits until the UART has sent the bytes that it contains, because
/// loop-back mode and an initialisation would destroy these bytes. The crate `uart_16550` also waits for this, but
/// without a time limit, and its loop-back test waits for each byte.
///
/// If no device responds, all reads return 0xff: the transmitter appears to be empty, and all inputs appear to be set.
pub fn is_working(uart: &mut impl Registers) -> bool {
    let start = uart.now();
    while uart.read(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {
        if uart.now().wrapping_sub(start) >= TIMEOUT {
            return false;
        }
    }
    let control = uart.read(MODEM_CONTROL);
    // Bits 5 to 7 do not exist in a UART, so this is another device, which must not be written to.
    if control == 0xff {
        return false;
    }
    uart.write(MODEM_CONTROL, LOOP_RTS_OUT2);
    let status = uart.read(MODEM_STATUS);
    uart.write(MODEM_CONTROL, control);
    status & INPUTS == CTS_DCD
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// A device at the ports.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Device {
        Uart,
        /// Nothing: reads return all ones.
        Nothing,
        /// Memory that returns what was written, but no UART.
        Memory,
        /// A UART whose transmitter never becomes empty.
        Stuck,
    }

    struct Fake {
        device: Device,
        control: u8,
        /// The number of reads until the transmitter is empty.
        busy: u32,
        time: Cell<u64>,
    }

    impl Registers for Fake {
        fn read(&mut self, offset: u16) -> u8 {
            match (self.device, offset) {
                (Device::Nothing, _) => 0xff,
                (Device::Stuck, LINE_STATUS) => 0,
                (Device::Memory, LINE_STATUS) => TRANSMITTER_EMPTY,
                (Device::Uart, LINE_STATUS) if self.busy > 0 => {
                    self.busy -= 1;
                    0x20
                }
                (_, LINE_STATUS) => 0x60,
                (_, MODEM_CONTROL) => self.control,
                // In loop-back mode the status shows RTS and OUT2, otherwise DSR and CTS of the other end.
                (Device::Uart | Device::Stuck, MODEM_STATUS) if self.control == 0x1a => 0x9b,
                (Device::Uart | Device::Stuck, MODEM_STATUS) => 0x30,
                _ => 0,
            }
        }

        fn write(&mut self, offset: u16, value: u8) {
            assert_eq!((offset, self.busy), (MODEM_CONTROL, 0), "written while the UART sends");
            self.control = value;
        }

        fn now(&self) -> u64 {
            self.time.replace(self.time.get().wrapping_add(TIMEOUT / 16))
        }
    }

    #[test]
    fn only_a_uart_with_loop_back_is_working() {
        let table = [
            (Device::Uart, 0, true),
            (Device::Uart, 10, true),
            (Device::Uart, 1000, false),
            (Device::Nothing, 0, false),
            (Device::Memory, 0, false),
            (Device::Stuck, 0, false),
        ];
        for (device, busy, expected) in table {
            let mut uart = Fake { device, control: 0x0b, busy, time: Cell::new(u64::MAX - 5) };
            assert_eq!(is_working(&mut uart), expected, "busy for {busy}");
            assert_eq!(uart.control, 0x0b, "the modem control register must be restored");
        }
    }
}
