//! The signal that a write beyond the file-size limit raises.

/// Ignores SIGXFSZ, which ends a process that writes beyond its file-size limit (`ulimit -f`). The write then fails
/// with `EFBIG`, which is reported like any other error (setrlimit(2), `RLIMIT_FSIZE`).
pub fn keep_running_at_size_limit() {
    // SAFETY: with the disposition `SIG_IGN` no code of this process runs as a signal handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
