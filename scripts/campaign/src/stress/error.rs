//! Why a campaign, or the join of several, could not be begun.

use std::fmt;
use std::path::PathBuf;

use machine::error::Error;

/// The version of the file's layout.
pub const VERSION: u32 = 1;

/// What is wrong with the order or with what it needs.
#[derive(Debug, PartialEq, Eq)]
pub enum StressError {
    /// `--one-insn` was given with an accelerator that is not TCG.
    NotTcg(String),
    /// A range of seeds has more than this many.
    TooManySeeds(u64),
    /// A file that should hold results does not: the reader's words.
    NoResult(PathBuf, String),
    /// A file holds results of another version of this tool.
    OtherVersion(PathBuf, u32),
}

impl fmt::Display for StressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StressError::NotTcg(accel) => {
                write!(f, "--one-insn is an option of QEMU's TCG; leave it out, or leave out --accel {accel}")
            }
            StressError::TooManySeeds(most) => {
                write!(f, "a campaign takes at most {most} seeds; part the range into several")
            }
            StressError::NoResult(path, error) => {
                write!(f, "{} is no result of `stress --json`: {error}", path.display())
            }
            StressError::OtherVersion(path, version) => write!(
                f,
                "{} is a result of version {version}, this tool reads version {}; run it again",
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
