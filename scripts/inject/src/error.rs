//! Why an injection failed: the machine would not be led, or the kernel did not stand it.

use std::fmt;
use std::io;

use machine::error::Error;
use machine::qmp::QmpError;

/// What went wrong in one boot.
#[derive(Debug)]
pub enum InjectError {
    /// QEMU's gdbstub said something that makes no sense here.
    Protocol {
        /// What it was asked.
        asked: String,
        /// What it said.
        reply: String,
    },
    /// The connection to the gdbstub is gone.
    Closed,
    /// QEMU ended while a CPU was expected somewhere.
    Ended(String),
    /// Nothing happened for so long that nothing will.
    Silent(String),
    /// A socket or the monitor failed.
    Io(io::Error),
    /// The kernel's code is not what the paths expect.
    Code(String),
    /// Something is not as it was, or not as it has to be.
    Wrong(String),
}

impl InjectError {
    /// A read that took too long is [`InjectError::Silent`].
    pub fn from_io(error: io::Error) -> InjectError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => InjectError::Silent(String::new()),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => InjectError::Closed,
            _ => InjectError::Io(error),
        }
    }

    /// With what was waited for, if nothing came.
    pub fn waiting_for(self, what: impl FnOnce() -> String) -> InjectError {
        match self {
            InjectError::Silent(_) => InjectError::Silent(what()),
            InjectError::Closed => InjectError::Ended(what()),
            other => other,
        }
    }
}

impl fmt::Display for InjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InjectError::Protocol { asked, reply } => {
                write!(f, "QEMU's gdbstub was asked {asked:?} and said {reply:?}")
            }
            InjectError::Closed => f.write_str("QEMU's gdbstub is gone"),
            InjectError::Ended(what) => write!(f, "QEMU ended before {what}"),
            InjectError::Silent(what) => write!(f, "the time was up before {what}"),
            InjectError::Io(error) => error.fmt(f),
            InjectError::Code(text) | InjectError::Wrong(text) => f.write_str(text),
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
