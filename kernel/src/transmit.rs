//! Sends lines to a UART for a bounded time: what it does not take is dropped, and the caller learns how many bytes.
#![forbid(unsafe_code)]

/// How long a line may take, in TSC ticks: at least 4 seconds on any CPU. At 115,200 baud the longest line takes 55 ms,
/// so only a UART that makes no progress exceeds it, for example because the host does not read what QEMU sends.
pub const TIMEOUT: u64 = 1 << 34;

/// The same for a UART that has exceeded [`TIMEOUT`] and is ready again: more than a line takes on any CPU.
pub const RETRY_TIMEOUT: u64 = 1 << 29;

/// A UART's transmitter.
pub trait Port {
    /// Writes as many bytes as it takes at once; 0 if it is not ready.
    fn write(&mut self, bytes: &[u8]) -> usize;

    /// Whether no device responds.
    fn is_absent(&mut self) -> bool;

    /// Returns the time in TSC ticks.
    fn now(&self) -> u64;
}

/// A UART, and what is known of its latest line.
#[derive(Debug)]
pub struct Transmitter<P> {
    port: P,
    /// The latest line was dropped.
    stuck: bool,
    /// A line was dropped after its beginning had been sent.
    cut: bool,
}

impl<P: Port> Transmitter<P> {
    /// A transmitter that is assumed to work.
    pub const fn new(port: P) -> Self {
        Transmitter { port, stuck: false, cut: false }
    }

    /// Sends a line with its line end, and returns how many of its bytes were dropped. Calls `pause` repeatedly while it
    /// waits. After a line was dropped it does not wait for the next unless the UART is ready: a UART that is stuck
    /// costs one timeout, not one for each line.
    pub fn send(&mut self, line: &[u8], mut pause: impl FnMut()) -> usize {
        if self.port.is_absent() {
            return line.len();
        }
        let start = self.port.now();
        if self.cut {
            // The next line starts in the first column.
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

    fn send_bytes(&mut self, bytes: &[u8], start: u64, pause: &mut impl FnMut()) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.port.write(rest);
            rest = &rest[sent..];
            let limit = match self.stuck {
                true if rest.len() == bytes.len() => 0,
                true => RETRY_TIMEOUT,
                false => TIMEOUT,
            };
            if sent == 0 {
                if self.port.now().wrapping_sub(start) >= limit {
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

    /// A UART that takes `room` bytes in all, 16 at once, and then, if it is `slow`, 16 more after five refusals. Each look
    /// at the clock takes a 64th of the timeout.
    #[derive(Default)]
    struct Fake {
        room: usize,
        slow: bool,
        refused: u32,
        absent: bool,
        taken: Vec<u8>,
        time: Cell<u64>,
    }

    impl Port for Fake {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let now = bytes.len().min(16).min(self.room);
            self.room -= now;
            self.taken.extend(&bytes[..now]);
            self.refused += u32::from(now == 0);
            if self.slow && self.refused == 5 {
                (self.room, self.refused) = (16, 0);
            }
            now
        }

        fn is_absent(&mut self) -> bool {
            self.absent
        }

        fn now(&self) -> u64 {
            self.time.replace(self.time.get() + TIMEOUT / 64)
        }
    }

    fn with_room(room: usize) -> Transmitter<Fake> {
        Transmitter::new(Fake { room, ..Fake::default() })
    }

    fn text(uart: &Transmitter<Fake>) -> String {
        String::from_utf8(uart.port.taken.clone()).unwrap()
    }

    #[test]
    fn ready_uart_takes_everything_without_a_pause() {
        let mut uart = with_room(1000);
        assert_eq!(uart.send(&[b'x'; 640], || panic!("it waits")), 0);
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
        assert_eq!(uart.send(b"three\n", || panic!("it waits again")), 6);
        uart.port.room = 100;
        assert_eq!(uart.send(b"four\n", || panic!("it waits")), 0);
        assert_eq!(text(&uart), "four\n");
        uart.port.room = 0;
        pauses = 0;
        assert_eq!(uart.send(b"five\n", || pauses += 1), 5);
        assert!(pauses > 0, "a UART that had recovered is not waited for");
    }

    #[test]
    fn line_after_a_cut_one_starts_in_the_first_column() {
        let mut uart = with_room(2);
        assert_eq!(uart.send(b"one\n", || ()), 2);
        assert_eq!(uart.send(b"two\n", || ()), 4);
        uart.port.room = 100;
        assert_eq!(uart.send(b"three\n", || ()), 0);
        assert_eq!(uart.send(b"four\n", || ()), 0);
        assert_eq!(text(&uart), "on\nthree\nfour\n");
    }

    #[test]
    fn absent_uart_is_never_waited_for() {
        let mut uart = Transmitter::new(Fake { absent: true, ..Fake::default() });
        assert_eq!(uart.send(b"one\n", || panic!("it waits")), 4);
        assert_eq!(text(&uart), "");
    }
}
