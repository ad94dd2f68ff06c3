//! Runs QEMU once: starts it, reads its console, and ends it within a time limit.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

use kernel_abi::verdict::Verdict;

use crate::console::boot_failure;
use crate::error::Error;
use crate::launch;
use crate::monitor::Monitor;
use crate::qemu::OWN_MONITOR;
use crate::verify::Ending;

/// How long QEMU may take to exit after its console has closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longer lines are split at this length, in bytes.
const LINE_MAX: u64 = 64 * 1024;

/// Maximum number of messages in the queue between the reader threads and the caller.
const QUEUE: usize = 1024;

/// After QEMU has closed its monitor, the tool checks at this interval whether QEMU has ended. It cannot rely on the
/// end of the console, because a process that QEMU started may keep the console open.
const CLOSED_POLL: Duration = Duration::from_millis(100);

/// The beginnings of lines that only a kernel prints.
const KERNEL_LINES: [&[u8]; 2] = [b"@ringside ", b"[cpu"];

/// A message from a reader thread.
enum Message {
    /// A console line, without its newline.
    Line(Vec<u8>),
    /// The console has closed.
    Closed,
    /// The monitor reports an event.
    Wake,
}

/// The result of a session.
pub struct SessionResult {
    /// How QEMU ended.
    pub ending: Ending,
    /// QEMU's standard error.
    pub stderr: String,
    /// The state of all CPUs, if the run timed out or QEMU paused the machine.
    pub registers: Option<String>,
    /// The monitor commands that were run, with their output.
    pub monitor_output: String,
    /// The cues whose command was not run.
    pub cues_left: Vec<Cue>,
}

/// A command to run once in QEMU's monitor, when a given string first appears on the console, or before the tool kills
/// QEMU because the machine has paused or exceeded its time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cue {
    /// The text that a console line must contain. If empty, the command runs before the tool kills QEMU after a
    /// pause or a timeout.
    pub text: String,
    /// The command.
    pub command: String,
}

impl std::str::FromStr for Cue {
    type Err = String;

    fn from_str(given: &str) -> Result<Cue, String> {
        match given.split_once("=>") {
            Some((text, command)) if !command.trim().is_empty() => {
                Ok(Cue { text: text.trim().to_owned(), command: command.trim().to_owned() })
            }
            _ => Err("expected TEXT=>COMMAND".to_owned()),
        }
    }
}

/// Runs QEMU. Calls `on_line` with each console line, without its newline, and the time since the start.
pub fn run(
    words: &[OsString],
    limit: Option<Duration>,
    cues: &[Cue],
    mut on_line: impl FnMut(&[u8], Duration),
) -> Result<SessionResult, Error> {
    watch(words, limit, cues, None, |line, time| line.map_or((), |line| on_line(line, time)))
}

/// Like [`run`], but also calls `on_line_or_idle` with None whenever no line has arrived for `idle_interval`, so that
/// the caller can do other work while the guest runs.
pub fn watch(
    words: &[OsString],
    limit: Option<Duration>,
    cues: &[Cue],
    idle_interval: Option<Duration>,
    on_line_or_idle: impl FnMut(Option<&[u8]>, Duration),
) -> Result<SessionResult, Error> {
    let user_may_pause = user_may_pause(words, cues);
    watch_command(launch::command(words), user_may_pause, limit, cues, idle_interval, on_line_or_idle)
}

/// Starts the command and watches it until it ends.
fn watch_command(
    mut command: Command,
    user_may_pause: bool,
    limit: Option<Duration>,
    cues: &[Cue],
    idle_interval: Option<Duration>,
    mut on_line_or_idle: impl FnMut(Option<&[u8]>, Duration),
) -> Result<SessionResult, Error> {
    let fail = |error| Error::File("cannot start QEMU".to_owned(), error);
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    let started = Instant::now();
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(fail)?;
    // Close QEMU's end of the socket, which the command still holds.
    drop(command);
    // The queue is bounded: a guest that prints faster than the tool can process the output must wait, as
    // on any serial line.
    let (sender, messages) = mpsc::sync_channel(QUEUE);
    let (mut monitor, stderr) = listen(&mut child, ours, &sender).map_err(|error| {
        end(&mut child);
        Error::File("cannot start a thread".to_owned(), error)
    })?;
    let mut cues = cues.to_vec();
    let mut monitor_output = String::new();
    let mut registers = None;
    let mut kernel_printed = false;
    let ending = loop {
        let mut wait = match limit {
            Some(limit) => limit.saturating_sub(started.elapsed()),
            None => Duration::from_secs(3600),
        };
        let expired = wait.is_zero();
        if let Some(interval) = idle_interval {
            wait = wait.min(interval);
        }
        if monitor.is_closed() {
            wait = wait.min(CLOSED_POLL);
        }
        let message = messages.recv_timeout(wait);
        if matches!(message, Ok(Message::Closed) | Err(RecvTimeoutError::Disconnected)) {
            break wait_for_exit(&mut child)?;
        }
        if let Ok(Message::Line(line)) = &message {
            kernel_printed |= KERNEL_LINES.iter().any(|start| line.starts_with(start));
            on_line_or_idle(Some(line), started.elapsed());
        }
        // The time limit also applies to a machine that never stops printing.
        let mut stopped = expired.then_some(Ending::TimedOut);
        match &message {
            Ok(Message::Line(line)) if boot_failure(line).is_some() => stopped = Some(Ending::NotBooted),
            Ok(Message::Line(line)) if stopped.is_none() => {
                let text = String::from_utf8_lossy(line);
                for cue in cues.extract_if(.., |cue| !cue.text.is_empty() && text.contains(&cue.text)) {
                    monitor_output += &monitor.command(&cue.command);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                on_line_or_idle(None, started.elapsed());
                if monitor.is_closed()
                    && let Ok(Some(status)) = child.try_wait()
                {
                    drain(&messages, |line| on_line_or_idle(Some(line), started.elapsed()));
                    break ending(status);
                }
            }
            _ => {}
        }
        if !user_may_pause && let Some(state) = monitor.paused() {
            stopped = Some(Ending::Paused(state));
        }
        if let Some(ending) = stopped {
            if ending != Ending::NotBooted {
                registers = Some(monitor.registers());
                for cue in cues.extract_if(.., |cue| cue.text.is_empty()) {
                    monitor_output += &monitor.command(&cue.command);
                }
            }
            end(&mut child);
            drain(&messages, |line| on_line_or_idle(Some(line), started.elapsed()));
            break ending;
        }
    };
    let ending = match ending {
        // `verify::judge` reports status 1 itself: QEMU rejected its arguments or could not create the machine.
        Ending::Status(status)
            if status != 1
                && Verdict::from_qemu_status(status).is_none()
                && !kernel_printed
                && !monitor.has_greeted() =>
        {
            Ending::NoMachine(status)
        }
        ending => ending,
    };
    Ok(SessionResult { ending, stderr: stderr.text(), registers, monitor_output, cues_left: cues })
}

/// Processes the lines that were still in the pipe or in the queue when QEMU ended: the reader thread may not have run
/// since then. Another process may keep the console open.
fn drain(messages: &Receiver<Message>, mut on_line: impl FnMut(&[u8])) {
    let until = Instant::now() + EXIT_TIMEOUT;
    while let Ok(message) = messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
        match message {
            Message::Line(line) => on_line(&line),
            Message::Closed => break,
            Message::Wake => {}
        }
    }
}

/// Returns whether the user can pause and resume the machine during the run: with a debugger, or with a monitor of
/// their own. In that case a pause is not a failure.
fn user_may_pause(words: &[OsString], cues: &[Cue]) -> bool {
    const OPTIONS: [&str; 6] = ["-gdb", "-s", "-monitor", "-qmp", "-qmp-pretty", "-S"];
    let is_option = |word: &OsString| {
        // QEMU's options may also begin with two hyphens.
        let word = word.to_string_lossy();
        OPTIONS.contains(&word.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(&word))
    };
    // The tool's own monitor does not count: the user cannot pause the machine with it.
    let mut others =
        words.iter().enumerate().filter(|(n, _)| words.get(n + 1).is_none_or(|next| next != OWN_MONITOR));
    others.any(|(_, word)| is_option(word)) || cues.iter().any(|cue| cue.command.starts_with("gdbserver"))
}

/// Starts the threads that read QEMU's monitor, console and standard error.
fn listen(
    child: &mut Child,
    socket: UnixStream,
    sender: &SyncSender<Message>,
) -> io::Result<(Monitor, StderrTail)> {
    let wake = sender.clone();
    // If the queue is full, the caller will receive one of the messages in it.
    let monitor = Monitor::start(socket, move || {
        let _ = wake.try_send(Message::Wake);
    })?;
    if let Some(stdout) = child.stdout.take() {
        let sender = sender.clone();
        Builder::new().spawn(move || {
            read_lines(stdout, &sender);
            let _ = sender.send(Message::Closed);
        })?;
    }
    Ok((monitor, StderrTail::read(child.stderr.take())?))
}

/// Reads console lines until the console closes or the receiver is dropped.
fn read_lines(stdout: impl Read, sender: &SyncSender<Message>) {
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
        if sender.send(Message::Line(line)).is_err() {
            break;
        }
    }
}

/// The last part of QEMU's standard error. Its size is limited, because QEMU's tracing can produce a lot of output.
struct StderrTail {
    bytes: Arc<Mutex<Vec<u8>>>,
    closed: mpsc::Receiver<()>,
}

impl StderrTail {
    /// The maximum number of bytes that are kept.
    const KEPT: usize = 1024 * 1024;

    /// Starts a thread that reads standard error.
    fn read(stderr: Option<impl Read + Send + 'static>) -> io::Result<StderrTail> {
        let (sender, closed) = mpsc::channel();
        let tail = StderrTail { bytes: Arc::default(), closed };
        let bytes = Arc::clone(&tail.bytes);
        let Some(mut stderr) = stderr else { return Ok(tail) };
        Builder::new().spawn(move || {
            // The sender is dropped at the end of the thread, which ends the wait in `text`.
            let _sender: mpsc::Sender<()> = sender;
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                let Ok(mut bytes) = bytes.lock() else { return };
                bytes.extend_from_slice(&buffer[..length]);
                if bytes.len() > 2 * StderrTail::KEPT {
                    let surplus = bytes.len() - StderrTail::KEPT;
                    bytes.drain(..surplus);
                }
            }
        })?;
        Ok(tail)
    }

    /// Returns the text. Called after QEMU has ended. Waits at most a second if another process keeps standard error
    /// open.
    fn text(&self) -> String {
        let _ = self.closed.recv_timeout(Duration::from_secs(1));
        let Ok(bytes) = self.bytes.lock() else { return String::new() };
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(StderrTail::KEPT)..]).into_owned()
    }
}

/// Waits for QEMU to exit after its console has closed, and kills it if it does not exit within [`EXIT_TIMEOUT`].
fn wait_for_exit(child: &mut Child) -> Result<Ending, Error> {
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

/// Kills QEMU. No data is lost: the tool attaches no writable disk, and QEMU's output is already in the pipe.
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

#[cfg(test)]
mod tests;
