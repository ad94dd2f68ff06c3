//! `print!` and `println!`: format text into a buffer on the stack and write it to this CPU's console line in as few
//! system calls as its length allows. The kernel prints complete lines, so output of different CPUs is never mixed
//! within a line.

use core::fmt::{self, Write};

use kernel_abi::syscall::WRITE_SERIAL_MAX;

use crate::sys;

/// Prints to this CPU's console line.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::print::print(::core::format_args!($($argument)*)) };
}

/// Prints to this CPU's console line and ends the line.
#[macro_export]
macro_rules! println {
    () => { $crate::print::print(::core::format_args!("\n")) };
    ($($argument:tt)*) => {
        $crate::print::print(::core::format_args!("{}\n", ::core::format_args!($($argument)*)))
    };
}

/// The implementation of [`print!`](crate::print!). If the kernel rejects output, it is dropped, because there is
/// nowhere to report the failure.
pub fn print(text: fmt::Arguments<'_>) {
    let mut buffer = Buffer::<WRITE_SERIAL_MAX, _>::new(sys::write_all);
    let _ = buffer.write_fmt(text);
    buffer.flush();
}

/// Collects bytes and passes them to its sink in pieces of `N` bytes; the last piece may be shorter.
pub struct Buffer<const N: usize, Sink: FnMut(&[u8])> {
    bytes: [u8; N],
    len: usize,
    sink: Sink,
}

impl<const N: usize, Sink: FnMut(&[u8])> Buffer<N, Sink> {
    /// Returns an empty buffer.
    pub const fn new(sink: Sink) -> Self {
        assert!(N > 0, "a buffer needs room for at least one byte");
        Buffer { bytes: [0; N], len: 0, sink }
    }

    /// Passes the collected bytes to the sink.
    pub fn flush(&mut self) {
        if self.len > 0 {
            (self.sink)(&self.bytes[..self.len]);
            self.len = 0;
        }
    }
}

impl<const N: usize, Sink: FnMut(&[u8])> Write for Buffer<N, Sink> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.len == N {
                self.flush();
            }
            let (now, later) = rest.split_at(rest.len().min(N - self.len));
            self.bytes[self.len..self.len + now.len()].copy_from_slice(now);
            self.len += now.len();
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    /// Returns the pieces that a buffer of 8 bytes passes to its sink.
    fn pieces(write: impl FnOnce(&mut dyn Write)) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut buffer =
            Buffer::<8, _>::new(|bytes: &[u8]| pieces.push(String::from_utf8(bytes.to_vec()).unwrap()));
        write(&mut buffer);
        buffer.flush();
        pieces
    }

    #[test]
    fn short_text_is_one_piece_however_it_is_formatted() {
        assert_eq!(pieces(|out| writeln!(out, "a{}b{:x}", 1, 255).unwrap()), ["a1bff\n"]);
    }

    #[test]
    fn nothing_is_flushed_without_a_write() {
        assert!(pieces(|_| ()).is_empty());
        assert!(pieces(|out| out.write_str("").unwrap()).is_empty());
    }

    #[test]
    fn long_text_is_split_only_at_the_length_of_the_buffer() {
        assert_eq!(pieces(|out| out.write_str("12345678").unwrap()), ["12345678"]);
        assert_eq!(
            pieces(|out| write!(out, "1234{}{:05}", 567_890_123, 45_678).unwrap()),
            ["12345678", "90123456", "78"]
        );
    }
}
