//! What a program ends with.

/// A program's exit code. 0 is success; the run fails if a copy on any CPU ends with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub i32);

impl ExitCode {
    /// All went well.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// Something failed, and the program has no finer code for it.
    pub const FAILURE: ExitCode = ExitCode(1);
    /// The arguments make no sense.
    pub const USAGE: ExitCode = ExitCode(2);
    /// The program panicked, as Rust's own runtime reports it.
    pub const PANIC: ExitCode = ExitCode(101);
}
