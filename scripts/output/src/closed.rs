//! Standard streams that were closed when the process started (`>&-`), and files whose close(2) fails.
//!
//! Before `main`, the runtime of the standard library opens `/dev/null` in place of closed streams. Afterwards these
//! cannot be distinguished from streams that the user redirected to `/dev/null`, so they are examined earlier.

use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// The C library calls this function before it calls the runtime of the standard library (System V gABI,
/// "Initialization and Termination Functions").
#[used]
#[unsafe(link_section = ".init_array")]
static EXAMINE: extern "C" fn() = examine;

extern "C" fn examine() {
    for (closed, fd) in CLOSED.iter().zip([libc::STDOUT_FILENO, libc::STDERR_FILENO]) {
        // SAFETY: the call reads the flags of a descriptor, and fails if the descriptor is not open. The C library is
        // initialised before this function is called.
        let is_open = unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1;
        closed.store(!is_open, Ordering::Relaxed);
    }
}

/// Returns whether a stream was closed when the process started: 0 is standard output, 1 is standard error.
pub fn was_closed(stream: usize) -> bool {
    CLOSED[stream].load(Ordering::Relaxed)
}

/// Closes a file and returns the error of close(2), which dropping the file would ignore. A network file system or a
/// quota may report only at this point that data was not written.
///
/// # Errors
/// The error of close(2), except `EINTR`: Linux has closed the file in that case (close(2), "Dealing with error
/// returns").
pub fn close(file: File) -> io::Result<()> {
    // SAFETY: `into_raw_fd` has passed the ownership of the descriptor to this function.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

    #[test]
    fn error_of_close_is_returned() {
        let file = File::open("/dev/null").expect("cannot open");
        close(file).expect("cannot close");
        // SAFETY: no file has this descriptor, so none is closed.
        let none = unsafe { File::from_raw_fd(1 << 29) };
        assert_eq!(close(none).expect_err("it must fail without a file").raw_os_error(), Some(libc::EBADF));
    }
}
