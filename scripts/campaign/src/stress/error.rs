//! Errors that prevent a campaign or a merge from starting.

use std::fmt;
use std::path::PathBuf;

use machine::error::Error;

/// The version of the result file format.
pub const VERSION: u32 = 1;

/// An error in the options or the input files.
#[derive(Debug, PartialEq, Eq)]
pub enum StressError {
    /// `--one-insn` was given with an accelerator that is not TCG.
    NotTcg(String),
    /// The campaign has more seeds than this maximum.
    TooManySeeds(u64),
    /// A file does not contain a result. The text is the parser's message.
    NotAResult(PathBuf, String),
    /// A file contains a result in another version of the format.
    OtherVersion(PathBuf, u32),
}

impl fmt::Display for StressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StressError::NotTcg(accel) => {
                write!(f, "--one-insn is an option of QEMU's TCG; leave it out, or leave out --accel {accel}")
            }
            StressError::TooManySeeds(most) => {
                write!(f, "a campaign takes at most {most} seeds; split the range into several campaigns")
            }
            StressError::NotAResult(path, error) => {
                write!(f, "{} is not a result of `stress --json`: {error}", path.display())
            }
            StressError::OtherVersion(path, version) => write!(
                f,
                "{} is a result of version {version}, and this tool reads version {}; run the campaign again",
                path.display(),
                VERSION
            ),
        }
    }
}

impl From<StressError> for Error {
    fn from(error: StressError) -> Error {
        Error::Usage(error.to_string())
    }
}
