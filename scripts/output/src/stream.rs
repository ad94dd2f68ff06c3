//! Standard output and standard error.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::time::Duration;

use rustix::io::Errno;

use crate::closed::was_closed;
use crate::is_reader_gone;

/// How long to wait before another attempt to write to a terminal or pipe that is full and does not block.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// A standard stream. After its first error, or once its reader is closed, nothing more is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The state of a stream.
enum State {
    Open,
    ReaderGone,
    Failed(io::Error),
}

static STATES: [Mutex<State>; 2] = [const { Mutex::new(State::Open) }; 2];

impl Stream {
    const ALL: [Stream; 2] = [Stream::Out, Stream::Err];

    /// Writes formatted text.
    pub fn print(self, text: fmt::Arguments<'_>) {
        self.write(text.to_string().as_bytes());
    }

    /// Writes formatted text and a newline with one call, so that lines of several threads are not mixed.
    pub fn line(self, text: fmt::Arguments<'_>) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// Writes bytes. An error is kept for [`lost`].
    pub fn write(self, bytes: &[u8]) {
        let mut state = self.state();
        if matches!(*state, State::Open)
            && !bytes.is_empty()
            && let Err(error) =
                self.check_open().and_then(|()| write_all(bytes, |bytes| self.write_some(bytes)))
        {
            *state = State::after(error);
        }
    }

    /// Records an error of a write to this stream that was made by other means.
    pub fn note(self, written: io::Result<()>) {
        if let Err(error) = self.check_open().and(written) {
            *self.state() = State::after(error);
        }
    }

    /// Returns whether the stream still accepts output.
    pub fn is_open(self) -> bool {
        matches!(*self.state(), State::Open)
    }

    /// Returns an error if the stream was closed when the process started. A write to it would succeed (see
    /// [`was_closed`]).
    fn check_open(self) -> io::Result<()> {
        if was_closed(self as usize) { Err(Errno::BADF.into()) } else { Ok(()) }
    }

    fn write_some(self, bytes: &[u8]) -> io::Result<usize> {
        // Do not use the buffer of `std`, which would write the rest of a failed line again at the end.
        let written = match self {
            Stream::Out => rustix::io::write(io::stdout(), bytes),
            Stream::Err => rustix::io::write(io::stderr(), bytes),
        };
        Ok(written?)
    }

    fn state(self) -> std::sync::MutexGuard<'static, State> {
        STATES[self as usize].lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn name(self) -> &'static str {
        match self {
            Stream::Out => "standard output",
            Stream::Err => "standard error",
        }
    }
}

impl State {
    fn after(error: io::Error) -> State {
        if is_reader_gone(&error) { State::ReaderGone } else { State::Failed(error) }
    }
}

/// Returns a sentence for each standard stream whose text was lost. Text for a closed reader does not count as lost.
pub fn lost() -> Vec<String> {
    let sentence = |stream: Stream| match &*stream.state() {
        State::Failed(error) => Some(format!("cannot write {}: {error}", stream.name())),
        State::Open | State::ReaderGone => None,
    };
    Stream::ALL.into_iter().filter_map(sentence).collect()
}

/// Calls `write` until all bytes are written.
fn write_all(mut bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process made the stream non-blocking, which affects all processes that share it.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_interrupted_and_blocked_writes_are_continued() {
        let mut written = Vec::new();
        let mut answers =
            [Err(ErrorKind::Interrupted.into()), Ok(2), Err(ErrorKind::WouldBlock.into()), Ok(1), Ok(3)]
                .into_iter();
        let result = write_all(b"abcdef", |bytes| {
            let answer: io::Result<usize> = answers.next().expect("no call after the last byte");
            written.extend_from_slice(&bytes[..*answer.as_ref().unwrap_or(&0)]);
            answer
        });
        assert!(result.is_ok());
        assert_eq!(written, b"abcdef");
    }

    #[test]
    fn closed_reader_is_not_a_failure() {
        assert!(matches!(State::after(ErrorKind::BrokenPipe.into()), State::ReaderGone));
        assert!(matches!(State::after(ErrorKind::StorageFull.into()), State::Failed(_)));
    }
}
