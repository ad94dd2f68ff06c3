//! The errors of the loader.

use core::fmt;

use kernel_abi::boot::COMMAND_LINE_MAX;
use uefi::{Error as FirmwareError, Status};

use crate::image::ImageError;

/// The reason why the loader returns to the firmware.
#[derive(Debug)]
pub enum Error {
    /// The kernel's ELF file cannot be loaded.
    Image(ImageError),
    /// The firmware or a device occupies the memory of the kernel's image permanently: the image's first and last byte.
    Occupied(u64, u64),
    /// Not enough free memory below 4 GiB.
    OutOfMemory,
    /// The command line is too long: its length in bytes.
    CommandLine(usize),
    /// A file on the loader's partition cannot be read.
    File(&'static str, Status),
    /// `cmdline.txt` is not UTF-8 text.
    NotText(&'static str),
    /// A request to the firmware failed: the request, and the firmware's status.
    Firmware(&'static str, Status),
}

impl Error {
    /// Returns a function that converts the firmware's error to [`Error::Firmware`].
    pub fn firmware<T: fmt::Debug>(request: &'static str) -> impl Fn(FirmwareError<T>) -> Error {
        move |error| Error::Firmware(request, error.status())
    }

    /// Returns the status that the loader returns to the firmware.
    pub fn status(&self) -> Status {
        match self {
            Error::Image(_) => Status::LOAD_ERROR,
            Error::Occupied(..) | Error::OutOfMemory => Status::OUT_OF_RESOURCES,
            Error::CommandLine(_) | Error::NotText(_) => Status::INVALID_PARAMETER,
            Error::File(_, status) | Error::Firmware(_, status) => *status,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Image(error) => write!(f, "the kernel's ELF file: {error}"),
            Error::Occupied(first, last) => {
                write!(
                    f,
                    "the firmware uses memory between {first:#x} and {last:#x}, where the kernel must be loaded"
                )
            }
            Error::OutOfMemory => f.write_str("not enough free memory below 4 GiB; give the machine more"),
            Error::CommandLine(len) => {
                write!(f, "the command line has {len} bytes, but at most {COMMAND_LINE_MAX} are allowed")
            }
            Error::File(name, status) => write!(f, "cannot read {name}: {status}"),
            Error::NotText(name) => write!(f, "{name} is not UTF-8 text"),
            Error::Firmware(request, status) => write!(f, "the firmware cannot {request}: {status}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Error {
        Error::Image(error)
    }
}
