//! Runs QEMU once: starts it, reads its console, and ends it within a time limit.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::launch;
use crate::monitor::Monitor;
use crate::verify::Ending;

/// How long QEMU may take to exit after its console has closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longer lines are split at this length, in bytes.
const LINE_MAX: u64 = 64 * 1024;

/// Maximum number of lines in the queue between the reader thread and the caller.
const QUEUE: usize = 1024;

/// The result of a session.
pub struct Ended {
    /// How QEMU ended.
    pub ending: Ending,
    /// QEMU's standard error.
    pub stderr: String,
    /// The state of all CPUs, if the run timed out.
    pub registers: Option<String>,
    /// The monitor commands that were run, with their answers.
    pub answers: String,
    /// The cues whose text never appeared.
    pub cues_left: Vec<Cue>,
}

/// A command to run once in QEMU's monitor, when a given string first appears on the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cue {
    /// The text that a console line must contain.
    pub text: String,
    /// The command.
    pub command: String,
}

impl std::str::FromStr for Cue {
    type Err = String;

    fn from_str(given: &str) -> Result<Cue, String> {
        match given.split_once("=>") {
            Some((text, command)) if !text.trim().is_empty() && !command.trim().is_empty() => {
                Ok(Cue { text: text.trim().to_owned(), command: command.trim().to_owned() })
            }
            _ => Err("expected TEXT=>COMMAND".to_owned()),
        }
    }
}

/// Runs QEMU. Calls `on_line` with each console line, without its line end, and the time since the start.
pub fn run(
    words: &[OsString],
    limit: Option<Duration>,
    cues: &[Cue],
    mut on_line: impl FnMut(&[u8], Duration),
) -> Result<Ended, Error> {
    watch(words, limit, cues, None, |line, time| line.map_or((), |line| on_line(line, time)))
}

/// Does the same as [`run`], and also calls `on` without a line whenever none has arrived for `pause`, so that the
/// caller can do other work while the guest runs.
pub fn watch(
    words: &[OsString],
    limit: Option<Duration>,
    cues: &[Cue],
    pause: Option<Duration>,
    mut on: impl FnMut(Option<&[u8]>, Duration),
) -> Result<Ended, Error> {
    let fail = |error| Error::File("cannot start QEMU".to_owned(), error);
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    let started = Instant::now();
    let mut command = launch::command(words);
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(fail)?;
    // The command still holds QEMU's end of the socket.
    drop(command);
    let readers = child.stdout.take().map(read_lines).transpose();
    let readers = readers.and_then(|lines| Ok((lines, child.stderr.take().map(read_end).transpose()?)));
    let (lines, stderr) = readers.map_err(|error| {
        end(&mut child);
        Error::File("cannot start a thread".to_owned(), error)
    })?;
    let mut monitor = Monitor::new(ours);
    let mut cues = cues.to_vec();
    let mut answers = String::new();
    let mut registers = None;
    let mut ending = None;
    while let Some(lines) = &lines {
        let wait = match limit {
            Some(limit) => limit.saturating_sub(started.elapsed()),
            None => Duration::from_secs(3600),
        };
        match lines.recv_timeout(pause.map_or(wait, |pause| wait.min(pause))) {
            // The time limit also applies to a machine that prints without end.
            Ok(line) if !wait.is_zero() => {
                on(Some(&line), started.elapsed());
                let text = String::from_utf8_lossy(&line);
                for cue in cues.extract_if(.., |cue| text.contains(&cue.text)) {
                    answers += &monitor.command(&cue.command);
                }
            }
            Err(RecvTimeoutError::Timeout) if limit.is_none_or(|limit| started.elapsed() < limit) => {
                on(None, started.elapsed());
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {
                registers = Some(monitor.registers());
                ending = Some(Ending::TimedOut);
                end(&mut child);
                // Process lines that were still in the pipe when the machine was stopped.
                lines.try_iter().take(QUEUE).for_each(|line| on(Some(&line), started.elapsed()));
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let ending = match ending {
        Some(ending) => ending,
        None => wait(&mut child)?,
    };
    let stderr = stderr.and_then(|text| text.recv_timeout(Duration::from_secs(1)).ok()).unwrap_or_default();
    Ok(Ended { ending, stderr, registers, answers, cues_left: cues })
}

/// Reads console lines in a separate thread, so that the caller can wait for them with a time-out.
fn read_lines(stdout: impl Read + Send + 'static) -> io::Result<Receiver<Vec<u8>>> {
    // The queue is bounded: a guest that prints faster than we can show must wait, as on any serial line.
    let (sender, receiver) = mpsc::sync_channel(QUEUE);
    Builder::new().spawn(move || {
        let mut reader = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            let read = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if sender.send(line).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

/// Reads QEMU's standard error and keeps only its end, since QEMU's tracing can print large amounts.
fn read_end(mut stderr: impl Read + Send + 'static) -> io::Result<Receiver<String>> {
    const KEPT: usize = 1024 * 1024;
    let (sender, receiver) = mpsc::channel();
    Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        while let Ok(1..) = stderr.by_ref().take(KEPT as u64).read_to_end(&mut bytes) {
            bytes.drain(..bytes.len().saturating_sub(KEPT));
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    })?;
    Ok(receiver)
}

/// Waits for a QEMU whose console has closed, and kills it if it does not exit.
fn wait(child: &mut Child) -> Result<Ending, Error> {
    let until = Instant::now() + EXIT_TIMEOUT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(ending(status)),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Ok(None) => break,
            Err(error) => {
                end(child);
                return Err(Error::File("cannot wait for QEMU".to_owned(), error));
            }
        }
    }
    end(child);
    Ok(Ending::TimedOut)
}

/// Kills QEMU. No data is lost: the machine has no disk, and its output is already in the pipe.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(launch::CANNOT_START) => Ending::NotStarted,
        (Some(code), _) => Ending::Status(code),
        (None, signal) => Ending::Signal(signal.unwrap_or(0)),
    }
}
