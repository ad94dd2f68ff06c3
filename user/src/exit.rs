//! Exit codes.

/// A program's exit code. 0 is success; the run fails if a copy on any CPU ends with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub i32);

impl ExitCode {
    /// Success.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// A failure without a code of its own.
    pub const FAILURE: ExitCode = ExitCode(1);
    /// Invalid arguments.
    pub const USAGE: ExitCode = ExitCode(2);
    /// The program panicked; the code of Rust's own runtime.
    pub const PANIC: ExitCode = ExitCode(101);
}
