//! Errors while capturing and converting traces.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The reason why there is no trace, or only an incomplete one.
#[derive(Debug)]
pub enum Error {
    /// The user requested something that the trace does not contain.
    Usage(String),
    /// A file operation failed: the attempted operation, and the error of the system.
    Io(String, io::Error),
    /// The file does not begin with the magic of a trace file.
    NotATrace(PathBuf),
    /// The file was written by a tool with another format version.
    Version(PathBuf, u32),
    /// The header of the file is invalid, for this reason.
    Header(PathBuf, String),
    /// The file is truncated. Its complete records have been converted.
    Truncated {
        /// The file.
        path: PathBuf,
        /// Number of complete records.
        found: u64,
        /// Number of records according to the header.
        expected: u64,
    },
    /// The console contains no trace lines.
    NoLines,
    /// The trace on the console is incomplete. The received part has been converted.
    Incomplete {
        /// The path of the console log.
        path: PathBuf,
        /// The defects of the trace.
        flaws: Vec<String>,
    },
    /// No page of guest memory contains a trace directory.
    NoDirectory,
    /// A page begins with the magic of a trace directory, but its fields are invalid.
    BadDirectory {
        /// Physical address of the page.
        page: u64,
        /// The invalid field.
        flaw: Flaw,
    },
    /// The header of a ring was overwritten: the CPU, and the invalid field.
    Ring(u32, String),
    /// The thread that drains the rings panicked. Its message is on standard error.
    DrainDied,
}

/// An invalid field of a trace directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The number of CPUs is zero, or larger than on any machine.
    Cpus(u32),
    /// The capacity is not a power of two.
    Capacity(u32),
    /// The address of the first ring, or the stride, is not a multiple of the cache-line size.
    Alignment(u64),
    /// A ring does not fit in the stride.
    Stride(u64),
    /// The ring of this CPU is not completely in guest memory.
    Outside(u32),
    /// The ring of this CPU overlaps the directory.
    Overlap(u32),
    /// The recording mode is unknown.
    Mode(u32),
}

impl Error {
    /// Creates an [`Error::Io`] that names the file.
    pub fn io(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let text = format!("cannot {doing} {}", path.display());
        move |error| Error::Io(text, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) => f.write_str(text),
            Error::Io(doing, error) => write!(f, "{doing}: {error}"),
            Error::NotATrace(path) => write!(
                f,
                "{} is neither a trace file nor a console log with a trace; if it is guest memory \
                 (memory-backend-file), add --ram",
                path.display()
            ),
            Error::Version(path, version) => write!(
                f,
                "{} has version {version} of the trace format, but this tool reads version {}: convert it with \
                 the tool that wrote it",
                path.display(),
                super::file::VERSION
            ),
            Error::Header(path, why) => {
                write!(f, "the header of {} is damaged ({why}): capture the trace again", path.display())
            }
            Error::Truncated { path, found, expected } => write!(
                f,
                "{} is truncated: only {found} of {} {} complete and converted",
                path.display(),
                output::count(*expected, "record"),
                if *found == 1 { "is" } else { "are" }
            ),
            Error::NoLines => f.write_str(
                "no trace on the console: check that the kernel's command line has trace=, and that the run ended or \
                 panicked. A kernel that hangs does not send its trace",
            ),
            Error::Incomplete { path, flaws } => {
                write!(f, "{}: {}; the rest was converted", path.display(), flaws.join("; "))
            }
            Error::NoDirectory => f.write_str(
                "no trace in the guest's memory: check that the kernel's command line has trace=, that the kernel ran until \
                 it had set up the rings, and that this is the file of a memory-backend-file with share=on",
            ),
            Error::BadDirectory { page, flaw } => write!(
                f,
                "the trace directory at physical address {page:#x} is damaged: {flaw}. Either the kernel \
                 overwrote it, or this tool and the kernel are from different builds"
            ),
            Error::Ring(cpu, why) => write!(f, "the trace ring of CPU {cpu} is damaged: {why}"),
            Error::DrainDied => f.write_str("the thread that drains the trace rings panicked; see above"),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Cpus(cpus) => write!(f, "it has rings for {}", output::count((*cpus).into(), "CPU")),
            Flaw::Capacity(capacity) => write!(
                f,
                "the capacity of {} is not a power of two",
                output::count((*capacity).into(), "record")
            ),
            Flaw::Alignment(value) => write!(f, "{value:#x} is not a multiple of the cache-line size"),
            Flaw::Stride(stride) => write!(f, "a ring does not fit in {}", output::count(*stride, "byte")),
            Flaw::Outside(cpu) => write!(f, "the ring of CPU {cpu} is not in the guest's memory"),
            Flaw::Overlap(cpu) => write!(f, "the ring of CPU {cpu} overlaps the directory"),
            Flaw::Mode(mode) => write!(f, "the mode {mode} is unknown"),
        }
    }
}

impl std::error::Error for Error {}
