//! The signal that a file of too large a size raises.

/// Ignores SIGXFSZ, which ends a process that writes past its limit of file sizes (`ulimit -f`). The write then fails
/// with `EFBIG`, which is reported as any other error is (setrlimit(2), `RLIMIT_FSIZE`).
pub fn keep_running_at_size_limit() {
    // SAFETY: `SIG_IGN` is a disposition and no function, so no code of this process runs as a signal handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
