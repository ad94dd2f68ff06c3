//! Runs QEMU in a thread, reads its console, and connects the sockets of its monitor and its gdbstub.

use std::ffi::OsString;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use machine::error::Error;
use machine::facts::{Facts, Line};
use machine::quoting::escape_commas;
use machine::session;
use machine::session::SessionResult;
use tempfile::TempDir;

use super::error::InjectError;
use super::guest::STOP_TIMEOUT;

/// The console output.
#[derive(Default)]
pub struct Console {
    /// The parsed records.
    pub facts: Facts,
    /// The lines that are not records.
    pub lines: Vec<String>,
}

/// A QEMU process, running or exited.
pub struct QemuProcess {
    session: JoinHandle<Result<SessionResult, Error>>,
    console: Arc<Mutex<Console>>,
    /// The sockets' directory, which is deleted on drop.
    _folder: TempDir,
}

impl QemuProcess {
    /// Starts QEMU with this command line, stopped at its first instruction. Returns the sockets of the monitor and of
    /// the gdbstub.
    pub fn connect(
        mut words: Vec<OsString>,
        limit: Option<Duration>,
    ) -> Result<(QemuProcess, UnixStream, UnixStream), InjectError> {
        let folder = tempfile::tempdir().map_err(InjectError::Io)?;
        let listen = |name: &str| {
            let path = folder.path().join(name);
            Ok((UnixListener::bind(&path)?, format!("unix:{}", escape_commas(&path))))
        };
        let (gdb, gdb_name) = listen("gdb").map_err(InjectError::Io)?;
        let (qmp, qmp_name) = listen("qmp").map_err(InjectError::Io)?;
        words.extend(["-S", "-gdb", &gdb_name, "-qmp", &qmp_name].map(OsString::from));
        let console = Arc::new(Mutex::new(Console::default()));
        let shared = Arc::clone(&console);
        let session = std::thread::Builder::new()
            .spawn(move || session::run(&words, limit, &[], |line, _| record(&shared, line)));
        let session = session.map_err(InjectError::Io)?;
        let connected = accept(&qmp, &session).and_then(|qmp| Ok((qmp, accept(&gdb, &session)?)));
        let (qmp, gdb) = match connected {
            Ok(both) => both,
            Err(error) => return Err(start_error(error, session)),
        };
        Ok((QemuProcess { session, console, _folder: folder }, qmp, gdb))
    }

    /// Waits until QEMU exits.
    pub fn finish(self) -> Result<(SessionResult, Console), InjectError> {
        let ended = self
            .session
            .join()
            .map_err(|_| InjectError::Mismatch("the thread that runs QEMU panicked".to_owned()))?;
        let ended = ended.map_err(|error| InjectError::Mismatch(error.to_string()))?;
        let console =
            self.console.lock().map(|mut console| std::mem::take(&mut *console)).unwrap_or_default();
        Ok((ended, console))
    }
}

fn record(console: &Mutex<Console>, line: &[u8]) {
    let Ok(mut console) = console.lock() else { return };
    if console.facts.take(line) == Line::Text {
        console.lines.push(String::from_utf8_lossy(line).into_owned());
    }
}

/// Waits until QEMU has connected or exited.
fn accept(
    listener: &UnixListener,
    session: &JoinHandle<Result<SessionResult, Error>>,
) -> Result<UnixStream, InjectError> {
    listener.set_nonblocking(true).map_err(InjectError::Io)?;
    let until = Instant::now() + STOP_TIMEOUT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(InjectError::Io)?;
                stream.set_read_timeout(Some(STOP_TIMEOUT)).map_err(InjectError::Io)?;
                return Ok(stream);
            }
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                return Err(InjectError::Io(error));
            }
            Err(_) if session.is_finished() => return Err(InjectError::Ended("it connected".to_owned())),
            Err(_) if Instant::now() > until => {
                return Err(InjectError::TimedOut("QEMU connected".to_owned()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn start_error(error: InjectError, session: JoinHandle<Result<SessionResult, Error>>) -> InjectError {
    match session.is_finished().then(|| session.join()) {
        Some(Ok(Ok(ended))) => {
            InjectError::Mismatch(format!("QEMU did not start: {}", ended.stderr.trim_end()))
        }
        Some(Ok(Err(error))) => InjectError::Mismatch(error.to_string()),
        _ => error,
    }
}
