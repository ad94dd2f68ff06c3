//! What can go wrong between a ring in a guest's memory and a picture of it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no trace, or not all of it.
#[derive(Debug)]
pub enum Error {
    /// The user asked for something that the trace does not have.
    Usage(String),
    /// A file could not be read or written: what was tried, and the system's words.
    Io(String, io::Error),
    /// The file does not begin as a trace file does.
    NotATrace(PathBuf),
    /// The file was written by another version of this tool.
    Version(PathBuf, u32),
    /// The file's header makes no sense: why.
    Header(PathBuf, String),
    /// The file ends too early. What is whole has been converted.
    Truncated {
        /// The file.
        path: PathBuf,
        /// Records that are there.
        found: u64,
        /// Records that its header promises.
        promised: u64,
    },
    /// Nothing of a trace came over the console.
    NoLines,
    /// A trace came over the console and not all of it. What came has been converted.
    Incomplete {
        /// The console's log.
        path: PathBuf,
        /// What is wrong with it.
        flaws: Vec<String>,
    },
    /// No page of guest memory holds a trace directory.
    NoDirectory,
    /// A page holds a directory's magic, but its fields cannot be true.
    BadDirectory {
        /// Physical address of the page.
        page: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// Somebody wrote over a ring's header: what does not fit.
    Ring(u32, String),
    /// The thread that drains the rings panicked; it has said why.
    DrainDied,
}

/// What is wrong with a trace directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// There are rings for no CPU, or for more than any machine has.
    Cpus(u32),
    /// The capacity is not a power of two.
    Capacity(u32),
    /// The first ring's address or the stride is not a multiple of a cache line.
    Alignment(u64),
    /// A ring does not fit into the stride.
    Stride(u64),
    /// A ring is not, or not whole, in the guest's memory: which CPU's.
    Outside(u32),
    /// The rings lie over the directory itself: which CPU's.
    Overlap(u32),
    /// There is no such mode.
    Mode(u32),
}

impl Error {
    /// An [`Error::Io`] that names the file.
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
                "{} is no trace file, nor a console's log with a trace in it; if it is a guest's memory \
                 (memory-backend-file), add --ram",
                path.display()
            ),
            Error::Version(path, version) => write!(
                f,
                "{} has version {version} of the trace format, this tool reads version {}: convert it with \
                 the tool that wrote it",
                path.display(),
                super::file::VERSION
            ),
            Error::Header(path, why) => {
                write!(f, "the header of {} is damaged ({why}): capture the trace again", path.display())
            }
            Error::Truncated { path, found, promised } => write!(
                f,
                "{} is cut off: {found} of {promised} records are there, and only those were converted",
                path.display()
            ),
            Error::NoLines => f.write_str(
                "no trace came over the console: is there a trace= on the kernel's command line, and did the run end, \
                 well or in a panic? A kernel that hangs sends none",
            ),
            Error::Incomplete { path, flaws } => {
                write!(f, "{}: {}; what came was converted", path.display(), flaws.join("; "))
            }
            Error::NoDirectory => f.write_str(
                "no trace in the guest's memory: is there a trace= on the kernel's command line, did the kernel \
                 come as far as setting the rings up, and is this the file of a memory-backend-file with share=on?",
            ),
            Error::BadDirectory { page, flaw } => write!(
                f,
                "the trace directory at physical address {page:#x} is damaged: {flaw}. Either the kernel wrote \
                 over it, or this tool and the kernel are not of the same build"
            ),
            Error::Ring(cpu, why) => write!(f, "the trace ring of CPU {cpu} is damaged: {why}"),
            Error::DrainDied => f.write_str("the thread that drains the trace rings panicked; see above"),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Cpus(cpus) => write!(f, "it has rings for {cpus} CPUs"),
            Flaw::Capacity(capacity) => write!(f, "a capacity of {capacity} records is no power of two"),
            Flaw::Alignment(value) => write!(f, "{value:#x} is not a multiple of a cache line"),
            Flaw::Stride(stride) => write!(f, "a ring does not fit into {stride} bytes"),
            Flaw::Outside(cpu) => write!(f, "the ring of CPU {cpu} is not in the guest's memory"),
            Flaw::Overlap(cpu) => write!(f, "the ring of CPU {cpu} lies over the directory"),
            Flaw::Mode(mode) => write!(f, "there is no mode {mode}"),
        }
    }
}

impl std::error::Error for Error {}
