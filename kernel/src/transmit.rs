//! Sends lines to a UART in bounded time. Bytes that the UART does not accept in time are dropped, and the caller gets
//! their number.
#![forbid(unsafe_code)]

/// The longest time that sending a line may take, in TSC ticks: at least 4 seconds on any CPU. At 115,200 baud the
/// longest line takes 55 ms, so only a UART that makes hardly any progress exceeds this time, for example because the
/// host does not read QEMU's output.
pub const TIMEOUT: u64 = 1 << 34;

/// The timeout for a UART that has exceeded [`TIMEOUT`] and is ready again. It is longer than a line takes on any CPU.
pub const RETRY_TIMEOUT: u64 = 1 << 29;

/// The transmitter hardware of a UART.
pub trait Port {
    /// Writes as many bytes as the UART accepts immediately and returns their number; 0 if the UART is not ready.
    fn write(&mut self, bytes: &[u8]) -> usize;

    /// Returns whether no device responds.
    fn is_absent(&mut self) -> bool;

    /// Returns the current time in TSC ticks.
    fn now(&self) -> u64;
}

/// A UART, and the state of its latest line.
#[derive(Debug)]
pub struct Transmitter<P> {
    port: P,
    /// Whether the latest line was dropped, completely or in part.
    stuck: bool,
    /// Whether the latest line was dropped after its beginning had been sent.
    cut: bool,
}

impl<P: Port> Transmitter<P> {
    /// Creates a transmitter that is assumed to work.
    pub const fn new(port: P) -> Self {
        Transmitter { port, stuck: false, cut: false }
    }

    /// Sends a line with its newline, and returns the number of bytes dropped. Calls `pause` repeatedly while it
    /// waits. After a dropped line, the next line is dropped without a wait unless the UART is ready, so a stuck UART
    /// costs a single timeout, not one for each line.
    pub fn send(&mut self, line: &[u8], mut pause: impl FnMut()) -> usize {
        if self.port.is_absent() {
            return line.len();
        }
        let start = self.port.now();
        if self.cut {
            // End the partial line, so that this line starts in the first column.
            if self.send_bytes(b"\n", start, &mut pause) > 0 {
                return line.len();
            }
            self.cut = false;
        }
        let dropped = self.send_bytes(line, start, &mut pause);
        self.cut = dropped > 0 && dropped < line.len();
        self.stuck = dropped > 0;
        dropped
    }

    /// Abandons the line that is being sent, because its sender never continues. The next line starts in the first
    /// column.
    pub const fn abandon_line(&mut self) {
        self.cut = true;
    }

    fn send_bytes(&mut self, bytes: &[u8], start: u64, pause: &mut impl FnMut()) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Read the time before the attempt, because a virtual CPU may be descheduled after a refused attempt, and
            // the UART may be ready again when the CPU continues.
            let now = self.port.now();
            let sent = self.port.write(rest);
            rest = &rest[sent..];
            let limit = match self.stuck {
                true if rest.len() == bytes.len() => 0,
                true => RETRY_TIMEOUT,
                false => TIMEOUT,
            };
            if sent == 0 {
                if now.wrapping_sub(start) >= limit {
                    break;
                }
                pause();
            }
        }
        rest.len()
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    /// A UART that accepts `room` bytes in total, up to 16 per write. If it is `slow`, it accepts 16 more bytes after
    /// every five refusals. Each read of the clock advances the time by 1/64 of the timeout.
    #[derive(Default)]
    struct Fake {
        room: Cell<usize>,
        slow: bool,
        refused: u32,
        absent: bool,
        taken: Vec<u8>,
        time: Cell<u64>,
        /// If not 0, the number of clock reads up to the one before which the CPU is descheduled until the UART has
        /// room again.
        descheduled: Cell<u32>,
    }

    impl Port for Fake {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let now = bytes.len().min(16).min(self.room.get());
            self.room.set(self.room.get() - now);
            self.taken.extend(&bytes[..now]);
            self.refused += u32::from(now == 0);
            if self.slow && self.refused == 5 {
                (self.room, self.refused) = (Cell::new(16), 0);
            }
            now
        }

        fn is_absent(&mut self) -> bool {
            self.absent
        }

        fn now(&self) -> u64 {
            if self.descheduled.get() > 0 {
                self.descheduled.set(self.descheduled.get() - 1);
                if self.descheduled.get() == 0 {
                    self.time.set(self.time.get() + TIMEOUT);
                    self.room.set(100);
                }
            }
            self.time.replace(self.time.get() + TIMEOUT / 64)
        }
    }

    fn with_room(room: usize) -> Transmitter<Fake> {
        Transmitter::new(Fake { room: Cell::new(room), ..Fake::default() })
    }

    fn text(uart: &Transmitter<Fake>) -> String {
        String::from_utf8(uart.port.taken.clone()).unwrap()
    }

    #[test]
    fn ready_uart_takes_everything_without_a_pause() {
        let mut uart = with_room(1000);
        assert_eq!(uart.send(&[b'x'; 640], || panic!("the transmitter must not wait")), 0);
        assert_eq!(uart.port.taken.len(), 640);
    }

    #[test]
    fn slow_uart_is_waited_for() {
        let mut uart = Transmitter::new(Fake { slow: true, ..Fake::default() });
        let mut pauses = 0;
        assert_eq!(uart.send(&[b'x'; 64], || pauses += 1), 0);
        assert_eq!((uart.port.taken.len(), pauses), (64, 20));
    }

    #[test]
    fn stuck_uart_costs_one_timeout_not_one_for_each_line() {
        let mut uart = with_room(0);
        let mut pauses = 0;
        assert_eq!(uart.send(b"one\n", || pauses += 1), 4);
        assert!((30..=64).contains(&pauses), "{pauses} pauses");
        assert_eq!(uart.send(b"three\n", || panic!("the transmitter must not wait again")), 6);
        uart.port.room.set(100);
        assert_eq!(uart.send(b"four\n", || panic!("the transmitter must not wait")), 0);
        assert_eq!(text(&uart), "four\n");
        uart.port.room.set(0);
        pauses = 0;
        assert_eq!(uart.send(b"five\n", || pauses += 1), 5);
        assert!(pauses > 0, "the transmitter did not wait for a UART that had recovered");
    }

    #[test]
    fn line_after_a_truncated_one_starts_in_the_first_column() {
        let mut uart = with_room(2);
        assert_eq!(uart.send(b"one\n", || ()), 2);
        assert_eq!(uart.send(b"two\n", || ()), 4);
        uart.port.room.set(100);
        assert_eq!(uart.send(b"three\n", || ()), 0);
        assert_eq!(uart.send(b"four\n", || ()), 0);
        assert_eq!(text(&uart), "on\nthree\nfour\n");
    }

    #[test]
    fn line_after_an_abandoned_one_starts_in_the_first_column() {
        let mut uart = with_room(2);
        // A line whose sender has stopped in `send`.
        uart.port.write(b"one\n");
        uart.abandon_line();
        assert_eq!(uart.send(b"two\n", || ()), 4);
        uart.port.room.set(100);
        assert_eq!(uart.send(b"three\n", || ()), 0);
        assert_eq!(text(&uart), "on\nthree\n");
    }

    #[test]
    fn time_while_descheduled_does_not_count_towards_the_timeout() {
        // The clock is first read at the line's start, and then before the first attempt, which is refused.
        let mut uart = Transmitter::new(Fake { descheduled: Cell::new(3), ..Fake::default() });
        assert_eq!(uart.send(b"one\n", || ()), 0);
        assert_eq!(text(&uart), "one\n");
    }

    #[test]
    fn absent_uart_is_never_waited_for() {
        let mut uart = Transmitter::new(Fake { absent: true, ..Fake::default() });
        assert_eq!(uart.send(b"one\n", || panic!("the transmitter must not wait")), 4);
        assert_eq!(text(&uart), "");
    }
}
