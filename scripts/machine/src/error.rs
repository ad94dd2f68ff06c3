//! What can go wrong on the host's side, before there is a run to judge or beside it.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use crate::verify::Outcome;

/// Why the host tool gave up.
#[derive(Debug)]
pub enum Error {
    /// The user asked for something that does not exist.
    Usage(String),
    /// A program that is needed is not there, or ended badly.
    Host(String),
    /// A file could not be read or written: what was tried, and the system's words.
    File(String, std::io::Error),
}

impl Error {
    /// An [`Error::File`] that names the file.
    pub fn file(doing: &str, path: &Path, error: std::io::Error) -> Error {
        Error::File(format!("cannot {doing} {}", path.display()), error)
    }

    /// The outcome that this error stands for.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::Usage(_) => Outcome::Usage,
            Error::Host(_) | Error::File(..) => Outcome::Host,
        }
    }

    /// The exit status of the host tool.
    pub fn exit_code(&self) -> ExitCode {
        self.outcome().exit_code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Host(text) => f.write_str(text),
            Error::File(doing, error) => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<trace::error::Error> for Error {
    fn from(error: trace::error::Error) -> Error {
        match error {
            trace::error::Error::Usage(text) => Error::Usage(text),
            other => Error::Host(other.to_string()),
        }
    }
}
