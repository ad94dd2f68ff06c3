//! The final lines that a copy prints.

use core::fmt::{self, Write};

use kernel_abi::syscall::{SYS_EXIT, SYS_WRITE_SERIAL, WRITE_SERIAL_MAX};
use user::print::Buffer;

use crate::caller::Counts;
use crate::violation::Violation;

/// The final line of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// The seed of all random numbers.
    pub seed: u64,
    /// Number of calls from the mix.
    pub calls: u64,
    /// Number of complete lines written.
    pub lines: u64,
    /// Number of system calls of the copy, per system-call number.
    pub counts: Counts,
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Last { seed, calls, lines, counts } = self;
        write!(f, "stress: seed={seed:#x} calls={calls} lines={lines} counts=")?;
        for (number, count) in counts.iter().enumerate() {
            write!(f, "{}{count}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Last {
    /// Adds the calls that print this line and end the program. One call prints the line unless it exceeds the maximum
    /// length of a write.
    pub fn with_itself(mut self) -> Last {
        self.counts[SYS_EXIT as usize] += 1;
        let before = self.counts[SYS_WRITE_SERIAL as usize];
        let mut calls = 1;
        loop {
            self.counts[SYS_WRITE_SERIAL as usize] = before + calls;
            let mut needed = 0;
            self.print(|_| needed += 1);
            if needed <= calls {
                return self;
            }
            calls = needed;
        }
    }

    /// Prints the line in as few pieces as possible.
    pub fn print(&self, sink: impl FnMut(&[u8])) {
        print(format_args!("{self}\n"), sink);
    }
}

/// Prints a violation. If the previous line is `incomplete`, a newline comes first.
pub fn violation(cpu: u64, incomplete: bool, violation: &Violation, sink: impl FnMut(&[u8])) {
    let end = if incomplete { "\n" } else { "" };
    print(format_args!("{end}stress: VIOLATION cpu={cpu} {violation}\n"), sink);
}

fn print(text: fmt::Arguments<'_>, sink: impl FnMut(&[u8])) {
    let mut buffer = Buffer::<WRITE_SERIAL_MAX, _>::new(sink);
    // Writing to the buffer never fails.
    let _ = buffer.write_fmt(text);
    buffer.flush();
}

#[cfg(test)]
mod tests {
    use kernel_abi::syscall::FREE;

    use super::*;

    fn pieces(last: &Last) -> Vec<String> {
        let mut pieces = Vec::new();
        last.print(|bytes| pieces.push(String::from_utf8(bytes.to_vec()).unwrap()));
        pieces
    }

    #[test]
    fn last_line_counts_its_own_call_and_the_exit() {
        let counts = core::array::from_fn(|n| n as u64 * 100);
        let last = Last { seed: 0xab, calls: 5, lines: 2, counts }.with_itself();
        assert_eq!(
            pieces(&last),
            [
                "stress: seed=0xab calls=5 lines=2 counts=0,101,200,301,400,500,600,700,800,900,1000,1100,1200,\
              1300,1400,1500,1600\n"
            ]
        );
    }

    #[test]
    fn one_call_prints_any_realistic_line() {
        // 10^10 calls of each assigned number and of those beyond the table, 10^8 calls of each free one.
        let counts =
            core::array::from_fn(|n| if FREE.contains(&(n as u64)) { 99_999_999 } else { 9_999_999_999 });
        let last = Last { seed: u64::MAX, calls: 99_999_999_999, lines: 9_999_999_999, counts };
        assert_eq!(pieces(&last.with_itself()).len(), 1);
    }

    #[test]
    fn a_line_of_several_calls_counts_each_of_them() {
        // With 18 more bytes, counting its own calls makes the line exceed the limit of one call.
        for digits in 10..=18 {
            let counts = [10_u64.pow(digits) - 1; size_of::<Counts>() / 8];
            let last = Last { seed: u64::MAX, calls: 1, lines: 1, counts }.with_itself();
            let written = last.counts[SYS_WRITE_SERIAL as usize] - counts[SYS_WRITE_SERIAL as usize];
            assert_eq!(pieces(&last).len() as u64, written, "{digits} digits");
        }
    }
}
