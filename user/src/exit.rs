//! Exit codes.

/// A program's exit code. 0 is success. The run fails if the program exits with any other code on any CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub i32);

impl ExitCode {
    /// Success.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// A failure that has no exit code of its own.
    pub const FAILURE: ExitCode = ExitCode(1);
    /// Invalid arguments.
    pub const USAGE: ExitCode = ExitCode(2);
    /// The program panicked. Rust's standard runtime uses the same code.
    pub const PANIC: ExitCode = ExitCode(101);
}
