//! Errors of the host tool that are not the result of a run.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use crate::verify::Outcome;

/// The reason why the host tool cannot continue.
#[derive(Debug)]
pub enum Error {
    /// The user requested something that does not exist.
    Usage(String),
    /// A required program is missing or failed.
    Host(String),
    /// A file operation failed: the attempted operation, and the error of the system.
    File(String, std::io::Error),
}

impl Error {
    /// Creates an [`Error::File`] that names the file.
    pub fn file(doing: &str, path: &Path, error: std::io::Error) -> Error {
        Error::File(format!("cannot {doing} {}", path.display()), error)
    }

    /// Returns the outcome of a run that ends with this error.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::Usage(_) => Outcome::Usage,
            Error::Host(_) | Error::File(..) => Outcome::Host,
        }
    }

    /// Returns the host tool's exit status for this error.
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
