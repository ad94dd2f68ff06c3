//! Injection errors: the machine could not be controlled, or its state is unexpected.

use std::fmt;
use std::io;

use machine::error::Error;
use machine::qmp::QmpError;

/// An error in one boot.
#[derive(Debug)]
pub enum InjectError {
    /// QEMU's gdbstub sent an unexpected reply.
    Protocol {
        /// The request.
        asked: String,
        /// The reply.
        reply: String,
    },
    /// The connection to the gdbstub is closed.
    Closed,
    /// QEMU exited before this happened.
    Ended(String),
    /// This did not happen before the timeout.
    TimedOut(String),
    /// A socket or the monitor failed.
    Io(io::Error),
    /// The kernel's code does not match the paths.
    Code(String),
    /// A state differs from the expected one.
    Mismatch(String),
}

impl InjectError {
    /// Converts an I/O error; a read that timed out becomes [`InjectError::TimedOut`].
    pub fn from_io(error: io::Error) -> InjectError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => InjectError::TimedOut(String::new()),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => InjectError::Closed,
            _ => InjectError::Io(error),
        }
    }

    /// Adds the awaited condition if QEMU exited or the wait timed out.
    pub fn waiting_for(self, what: impl FnOnce() -> String) -> InjectError {
        match self {
            InjectError::TimedOut(_) => InjectError::TimedOut(what()),
            InjectError::Closed => InjectError::Ended(what()),
            other => other,
        }
    }
}

impl fmt::Display for InjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InjectError::Protocol { asked, reply } => {
                write!(f, "QEMU's gdbstub sent the unexpected reply {reply:?} to {asked:?}")
            }
            InjectError::Closed => f.write_str("QEMU's gdbstub closed the connection"),
            InjectError::Ended(what) => write!(f, "QEMU exited before {what}"),
            InjectError::TimedOut(what) => write!(f, "timed out before {what}"),
            InjectError::Io(error) => error.fmt(f),
            InjectError::Code(text) | InjectError::Mismatch(text) => f.write_str(text),
        }
    }
}

impl From<QmpError> for InjectError {
    fn from(error: QmpError) -> InjectError {
        InjectError::from_io(match error {
            QmpError::Io(error) => error,
            other => io::Error::other(other),
        })
    }
}

impl From<InjectError> for Error {
    fn from(error: InjectError) -> Error {
        Error::Host(error.to_string())
    }
}
