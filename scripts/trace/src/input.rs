//! Opens and reads the files that the user names. No file can make the tool read forever or use unlimited memory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread::Builder;
use std::time::Duration;

/// How long to wait for a writer of a FIFO. A writer that the same command line starts opens it much earlier.
const FIFO_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a file. A FIFO is accepted, but not a device: `/dev/zero`, for example, has no end.
///
/// # Errors
/// If the file cannot be opened, or is a device or directory, or if no process opens a FIFO for writing within 10 s.
pub fn open(path: &Path) -> io::Result<File> {
    open_within(FIFO_TIMEOUT, path)
}

fn open_within(timeout: Duration, path: &Path) -> io::Result<File> {
    let file = if fs::metadata(path)?.file_type().is_fifo() {
        let (sender, opened) = mpsc::channel();
        let path = path.to_owned();
        // The thread waits until there is a writer. If there is none, the thread ends with the process.
        Builder::new().spawn(move || {
            let _ = sender.send(File::open(path));
        })?;
        let none = |_| {
            let text = format!("no process has opened this FIFO for writing within {} s", timeout.as_secs());
            io::Error::new(ErrorKind::TimedOut, text)
        };
        opened.recv_timeout(timeout).map_err(none)??
    } else {
        File::open(path)?
    };
    check(&file)?;
    Ok(file)
}

/// Returns whether two paths name the same existing file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// Checks that an open file has an end.
///
/// # Errors
/// If it is a device or directory.
pub fn check(file: &File) -> io::Result<()> {
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if kind.is_char_device() || kind.is_block_device() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a device, not a file"));
    }
    Ok(())
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// If the file cannot be read, or has more bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = || {
        let text = format!("it has more than {} MiB, the maximum size", limit >> 20);
        io::Error::new(ErrorKind::FileTooLarge, text)
    };
    // Check the size before memory is reserved, because a sparse file can be very large.
    if file.metadata()?.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_folders_are_refused() {
        let text = |path: &str| read(Path::new(path), 9).expect_err("it must be rejected").to_string();
        assert_eq!(text("/dev/zero"), "it is a device, not a file");
        assert!(text("/").contains("directory"));
    }

    #[test]
    fn fifo_without_a_writer_is_an_error() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let [unused, path] = ["unused", "fifo"].map(|name| folder.path().join(name));
        let made = std::process::Command::new("mkfifo").args([&unused, &path]).status();
        assert!(made.expect("cannot start mkfifo").success());
        let error = open_within(Duration::from_millis(10), &unused).expect_err("it must be rejected");
        assert!(error.to_string().contains("no process has opened this FIFO for writing"), "{error}");
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "text").expect("cannot write")
        });
        assert_eq!(read(&path, 9).expect("cannot read"), b"text");
        writer.join().expect("the writer must end");
    }

    #[test]
    fn file_over_the_limit_is_refused() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("x");
        std::fs::write(&path, vec![7; 2 << 20]).expect("cannot write");
        assert_eq!(read(&path, 2 << 20).expect("cannot read").len(), 2 << 20);
        let error = read(&path, (2 << 20) - 1).expect_err("it must be rejected");
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
        let sparse = File::options().write(true).open(&path).expect("cannot open");
        sparse.set_len(1 << 40).expect("cannot create a sparse file");
        assert!(read(&path, 2 << 20).is_err());
        // A file whose length is not known before it is read.
        let unknown = read(Path::new("/proc/self/status"), 9).expect_err("it must be rejected");
        assert_eq!(unknown.kind(), ErrorKind::FileTooLarge);
    }
}
