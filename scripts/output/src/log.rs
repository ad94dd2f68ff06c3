//! A file of lines that grows during a run.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::closed::close;
use crate::{create, is_reader_gone};

/// A log. Its first error is kept for [`finish`](Log::finish), so that a full disk does not end the run.
pub struct Log<W: Write = File> {
    file: BufWriter<W>,
    /// Whether each line is written to the file immediately.
    at_once: bool,
    error: Option<io::Error>,
}

impl Log<File> {
    /// Creates a log with [`create`]. It is complete up to the last line even if the tool is killed.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn create(path: &Path) -> io::Result<Log> {
        Ok(Log::new(create(path)?, true))
    }

    /// Writes what is left, and closes the file.
    ///
    /// # Errors
    /// The error of [`finish`](Log::finish), or that of close(2).
    pub fn close(self) -> io::Result<()> {
        self.finish().and_then(close)
    }
}

impl<W: Write> Log<W> {
    /// Makes a log of an open file, which is written in large pieces.
    pub fn buffered(file: W) -> Log<W> {
        Log::new(file, false)
    }

    fn new(file: W, at_once: bool) -> Log<W> {
        Log { file: BufWriter::new(file), at_once, error: None }
    }

    /// Appends a line, given without its newline.
    pub fn line(&mut self, line: &[u8]) {
        self.append(&[line, b"\n"]);
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.append(&[bytes]);
    }

    fn append(&mut self, pieces: &[&[u8]]) {
        if self.error.is_none() {
            let written = pieces.iter().try_for_each(|piece| self.file.write_all(piece));
            let written = if self.at_once { written.and_then(|()| self.file.flush()) } else { written };
            self.error = written.err();
        }
    }

    /// Writes what is left, and returns the file.
    ///
    /// # Errors
    /// The first error of this log. A closed reader is not an error.
    pub fn finish(mut self) -> io::Result<W> {
        let error = self.error.take().or_else(|| self.file.flush().err());
        // Do not try again to write what could not be written.
        let (file, _) = self.file.into_parts();
        match error {
            Some(error) if !is_reader_gone(&error) => Err(error),
            _ => Ok(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_written_immediately() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("log");
        let mut log = Log::create(&path).expect("cannot open");
        log.line(b"one\xff");
        assert_eq!(std::fs::read(&path).expect("cannot read"), b"one\xff\n");
        log.line(b"two");
        log.finish().expect("it must be complete");
        assert_eq!(std::fs::read(&path).expect("cannot read"), b"one\xff\ntwo\n");
    }

    #[test]
    fn full_disk_is_reported_at_the_end() {
        let full = Path::new("/dev/full");
        let file = || File::options().write(true).open(full).expect("cannot open");
        for mut log in [Log::create(full).expect("cannot open"), Log::buffered(file())] {
            log.line(b"one");
            log.line(b"two");
            assert_eq!(log.finish().expect_err("the write must fail").kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn closed_reader_is_not_an_error() {
        let (reader, writer) = io::pipe().expect("cannot create a pipe");
        drop(reader);
        let mut log = Log::new(File::from(std::os::fd::OwnedFd::from(writer)), true);
        log.line(b"one");
        log.line(b"two");
        log.finish().expect("unexpected error");
    }
}
