//! Files that are written in place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// How long to wait for a reader of a FIFO. A reader that the same command line starts opens it much earlier.
const READER_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between two attempts to open the FIFO.
const RETRY: Duration = Duration::from_millis(10);

/// Creates a file that is written in place: an existing file is truncated, a symbolic link is followed, and a FIFO or
/// device is kept. Used for files that another process writes, and for files that are useful before they are complete.
///
/// # Errors
/// If the file cannot be opened.
pub fn create(path: &Path) -> io::Result<File> {
    open_in_place(path, OpenOptions::new().write(true).create(true).truncate(true))
}

/// Opens a file for writing. If no process opens a FIFO for reading within a time limit, this is an error; otherwise
/// the end of a run would wait without a limit.
///
/// # Errors
/// If the file cannot be opened.
pub(crate) fn open_in_place(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_within(READER_TIMEOUT, path, options)
}

fn open_within(timeout: Duration, path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let until = Instant::now() + timeout;
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    loop {
        let error = match options.open(path) {
            Ok(file) => {
                // From here on, writes must wait for the reader.
                fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
                return Ok(file);
            }
            Err(error) => error,
        };
        // open(2): no process has opened the FIFO for reading. Other files report the same error for other reasons.
        let waits = error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
            && fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        if !waits {
            return Err(error);
        }
        if Instant::now() > until {
            let text = format!("no process opened it for reading within {} s", timeout.as_secs());
            return Err(io::Error::new(ErrorKind::TimedOut, text));
        }
        std::thread::sleep(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn fifo_waits_for_its_reader_until_a_time_limit() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let fifo = folder.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("cannot create");
        let open = |timeout| open_within(timeout, &fifo, OpenOptions::new().write(true));
        assert_eq!(
            open(Duration::ZERO).expect_err("it must fail without a reader").kind(),
            ErrorKind::TimedOut
        );
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).expect("cannot read")
        });
        // More than a pipe holds, so that the writes block.
        let bytes = vec![7; 1 << 20];
        open(READER_TIMEOUT).and_then(|mut file| file.write_all(&bytes)).expect("cannot write");
        assert_eq!(reader.join().expect("the reader panicked"), bytes);
    }
}
