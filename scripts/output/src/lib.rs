//! All output of the host tool goes through this crate, so that every failed write is reported.
//!
//! ```text
//!   print!, println!, eprint!, eprintln! --> Stream standard output and standard error lines of a console --> Log a
//!   file that grows while the guest runs results, reports, converted traces --> Target a file that is either complete
//!   or absent
//! ```
//!
//! The same rules apply to all of them:
//!
//! - A write that fails is reported, and the tool ends with a host failure.
//! - A closed reader (`EPIPE`) is not an error: nothing more is written to it, and the tool continues.
//! - Nothing panics. The macros of the standard library with the same names do, so clippy forbids them
//!   (`scripts/clippy.toml`).
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests write their own files, and a failed write fails the test"
    )
)]

#[allow(unsafe_code, reason = "a function before `main`, fcntl(2) and close(2) are unsafe")]
mod closed;
mod in_place;
mod log;
#[allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
mod memory;
mod printable;
#[allow(unsafe_code, reason = "signal(2) is an unsafe function")]
mod signals;
mod stream;
mod target;

pub use self::in_place::create;
pub use self::log::Log;
pub use self::memory::Memory;
pub use self::printable::{is_unprintable, printable, printable_lines};
pub use self::signals::keep_running_at_size_limit;
pub use self::stream::{Stream, lost};
pub use self::target::{Target, is_replaced, spool_folder, write};

/// Returns a number with a noun: see [`noun`].
pub fn count(number: u64, singular: &str) -> String {
    format!("{number} {}", noun(number, singular))
}

/// Returns a noun in the plural unless the number is 1. The noun must have a regular plural.
pub fn noun(number: u64, singular: &str) -> String {
    match singular.strip_suffix('y') {
        _ if number == 1 => singular.to_owned(),
        Some(stem) => format!("{stem}ies"),
        None => format!("{singular}s"),
    }
}

/// Returns whether an error means that the other end of a pipe is closed.
fn is_reader_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// Prints to standard output.
#[macro_export]
macro_rules! print {
    ($($words:tt)*) => { $crate::Stream::Out.print(::std::format_args!($($words)*)) };
}

/// Prints a line to standard output.
#[macro_export]
macro_rules! println {
    () => { $crate::Stream::Out.line(::std::format_args!("")) };
    ($($words:tt)*) => { $crate::Stream::Out.line(::std::format_args!($($words)*)) };
}

/// Prints to standard error.
#[macro_export]
macro_rules! eprint {
    ($($words:tt)*) => { $crate::Stream::Err.print(::std::format_args!($($words)*)) };
}

/// Prints a line to standard error.
#[macro_export]
macro_rules! eprintln {
    () => { $crate::Stream::Err.line(::std::format_args!("")) };
    ($($words:tt)*) => { $crate::Stream::Err.line(::std::format_args!($($words)*)) };
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn noun_is_singular_after_one() {
        assert_eq!([0, 1, 2].map(|n| count(n, "start")), ["0 starts", "1 start", "2 starts"]);
        assert_eq!([1, 2].map(|n| count(n, "copy")), ["1 copy", "2 copies"]);
    }
}
