//! QEMU's monitor: reads the CPU state after a timeout, runs the user's monitor commands, and detects that QEMU has
//! paused the machine.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};

use std::thread::Builder;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::qmp::{self, Qmp, QmpError};

/// Time limit for an entire exchange with the monitor. A QEMU that hangs does not answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The commands that read the CPU state, in this order.
const STATE_COMMANDS: [&str; 3] = ["info cpus", "info registers -a", "info lapic"];

/// Waits until QEMU has set up the machine, because only then does it answer on its monitor. Returns false on timeout.
pub fn is_ready(socket: UnixStream) -> bool {
    let (sender, receiver) = mpsc::channel();
    let reader = Builder::new().spawn(move || {
        let _ = sender.send(Qmp::greet(&socket, &socket).is_ok());
    });
    reader.is_ok() && receiver.recv_timeout(TIMEOUT).unwrap_or(false)
}

/// The monitor of a running machine. A thread reads everything that QEMU sends, because an event can arrive at any time.
pub struct Monitor {
    socket: Arc<UnixStream>,
    /// QEMU's answers. The first one, which has no id, is sent when the monitor is ready.
    answers: Receiver<Value>,
    events: Arc<Events>,
    ready: bool,
    /// The id of the latest command.
    latest: u64,
}

/// The events that the reader thread has seen.
#[derive(Default)]
struct Events {
    /// QEMU has paused the machine since the last call of [`paused`](Monitor::paused).
    stopped: AtomicBool,
    /// QEMU has sent its greeting, which it does once it has created the machine.
    greeted: AtomicBool,
    /// QEMU has closed its monitor, which it does when it exits.
    closed: AtomicBool,
}

impl Monitor {
    /// Starts a thread that reads from the QEMU at the other end of this socket. Calls `wake` when there is a reason to call
    /// [`paused`](Self::paused) or [`is_closed`](Self::is_closed).
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(socket: UnixStream, wake: impl Fn() + Send + 'static) -> io::Result<Monitor> {
        let socket = Arc::new(socket);
        let events = Arc::new(Events::default());
        let (sender, answers) = mpsc::channel();
        let reader = (Arc::clone(&socket), Arc::clone(&events));
        Builder::new().spawn(move || {
            let (socket, events) = reader;
            // The thread ends when the connection does. Later commands report the same error.
            let _ = read(&socket, &events, &sender, &wake);
            events.closed.store(true, Ordering::Release);
            wake();
        })?;
        Ok(Monitor { socket, answers, events, ready: false, latest: 0 })
    }

    /// Returns whether QEMU has closed its monitor.
    pub fn is_closed(&self) -> bool {
        self.events.closed.load(Ordering::Acquire)
    }

    /// Returns whether QEMU has sent its greeting. Called after QEMU has ended. Waits at most a second for the last
    /// message.
    pub fn has_greeted(&self) -> bool {
        let until = Instant::now() + Duration::from_secs(1);
        while !self.is_closed() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.events.greeted.load(Ordering::Acquire)
    }

    /// Returns QEMU's run state if QEMU has paused the machine, and will not resume it by itself. Asks QEMU only if a
    /// pause was reported since the previous call.
    pub fn paused(&mut self) -> Option<&'static str> {
        if !self.events.stopped.swap(false, Ordering::AcqRel) {
            return None;
        }
        let status = self.execute("query-status", json!({})).ok()?;
        lasting_pause(status["running"].as_bool()?, status["status"].as_str()?)
    }

    /// Stops the machine and returns the state of all its CPUs, or the error as text.
    pub fn registers(&mut self) -> String {
        let read = |monitor: &mut Monitor| {
            monitor.execute("stop", json!({}))?;
            STATE_COMMANDS.iter().map(|command| monitor.human(command)).collect::<Result<String, String>>()
        };
        read(self).unwrap_or_else(|error| format!("no registers: {error}\n"))
    }

    /// Runs a command of the human monitor. Returns the command followed by its answer, or by the error as text.
    pub fn command(&mut self, command: &str) -> String {
        self.human(command).unwrap_or_else(|error| format!("(qemu) {command}\n{error}\n"))
    }

    /// Runs a command of the human monitor. Returns the command and its answer as a terminal would show them.
    fn human(&mut self, command: &str) -> Result<String, String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        let answer = answer.as_str().ok_or_else(|| QmpError::Protocol(answer.to_string()).to_string())?;
        Ok(format!("(qemu) {command}\n{}\n", answer.replace('\r', "").trim_end()))
    }

    /// Runs a command and waits for its answer. A missing answer cannot delay the end of the run for longer than the
    /// time limit.
    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let until = Instant::now() + TIMEOUT;
        if !self.ready {
            self.answer(until)?;
            self.ready = true;
        }
        self.latest += 1;
        let id = self.latest;
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments, "id": id }));
        (&*self.socket).write_all(line.as_bytes()).map_err(|error| error.to_string())?;
        loop {
            let answer = self.answer(until)?;
            // The answer to an earlier command that exceeded the time limit has another id.
            if answer["id"] == id {
                return qmp::result(answer).map_err(|error| error.to_string());
            }
        }
    }

    fn answer(&self, until: Instant) -> Result<Value, String> {
        let answer = self.answers.recv_timeout(until.saturating_duration_since(Instant::now()));
        answer.map_err(|error| match error {
            RecvTimeoutError::Timeout => "QEMU's monitor does not answer".to_owned(),
            RecvTimeoutError::Disconnected => "QEMU has closed its monitor".to_owned(),
        })
    }
}

/// Reads QEMU's messages until the connection ends. Passes on the answers, and records the events.
fn read(
    socket: &UnixStream,
    events: &Events,
    answers: &Sender<Value>,
    wake: &impl Fn(),
) -> Result<(), QmpError> {
    let greeted = || events.greeted.store(true, Ordering::Release);
    let mut monitor = Qmp::greet_with(socket, socket, greeted)?;
    // If the receiver is dropped, the run is over. Continue to read nevertheless, because QEMU could block otherwise.
    let _ = answers.send(Value::Null);
    loop {
        let message = monitor.receive()?;
        match message["event"].as_str() {
            None => {
                let _ = answers.send(message);
            }
            Some("STOP") => {
                events.stopped.store(true, Ordering::Release);
                wake();
            }
            Some(_) => {}
        }
    }
}

/// Returns the run state if only a command can resume a machine in it. In the other states QEMU resumes the machine by
/// itself, or a debugger does.
///
/// Source: the QEMU documentation, "QEMU QMP Reference Manual", `RunState`.
fn lasting_pause(running: bool, state: &str) -> Option<&'static str> {
    const LASTING: [&str; 6] =
        ["paused", "internal-error", "io-error", "guest-panicked", "watchdog", "shutdown"];
    LASTING.into_iter().find(|lasting| !running && *lasting == state)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// Simulates a QEMU that pauses its machine when it receives the command `pause`, and then answers.
    fn qemu(socket: UnixStream, state: &'static str) {
        let mut reader = BufReader::new(socket.try_clone().expect("cannot duplicate the handle"));
        let send = |text: String| (&socket).write_all(format!("{text}\r\n").as_bytes()).expect("cannot send");
        send(r#"{"QMP": {"version": {}, "capabilities": []}}"#.to_owned());
        let mut line = String::new();
        while reader.read_line(&mut line).expect("there must be a line") > 0 {
            let command: Value = serde_json::from_str(&line).expect("invalid JSON");
            if command["arguments"]["command-line"] == "pause" {
                send(r#"{"event": "STOP"}"#.to_owned());
            }
            let result = match command["execute"].as_str() {
                Some("human-monitor-command") => json!("done\r\n"),
                Some("query-status") => json!({ "running": false, "status": state }),
                _ => json!({}),
            };
            send(json!({ "return": result, "id": command["id"] }).to_string());
            line.clear();
        }
    }

    fn monitor(state: &'static str) -> (Monitor, Receiver<()>) {
        let (ours, theirs) = UnixStream::pair().expect("cannot create a socket pair");
        std::thread::spawn(move || qemu(theirs, state));
        let (sender, woken) = mpsc::channel();
        let wake = move || {
            let _ = sender.send(());
        };
        (Monitor::start(ours, wake).expect("cannot start a thread"), woken)
    }

    #[test]
    fn pause_is_noticed_once_and_wakes_the_caller() {
        let (mut monitor, woken) = monitor("internal-error");
        assert_eq!(monitor.command("info"), "(qemu) info\ndone\n");
        assert_eq!(monitor.paused(), None);
        assert_eq!(monitor.command("pause"), "(qemu) pause\ndone\n");
        woken.recv_timeout(TIMEOUT).expect("the caller must be woken");
        assert_eq!(monitor.paused(), Some("internal-error"));
        assert_eq!(monitor.paused(), None);
    }

    #[test]
    fn pause_that_qemu_or_a_debugger_ends_is_ignored() {
        for state in ["save-vm", "debug", "finish-migrate", "prelaunch"] {
            let (mut monitor, _woken) = monitor(state);
            monitor.command("pause");
            assert_eq!(monitor.paused(), None, "{state}");
        }
        assert_eq!(lasting_pause(true, "paused"), None, "a running machine is not paused");
    }

    #[test]
    fn closed_connection_wakes_the_caller_and_ends_commands() {
        let (ours, theirs) = UnixStream::pair().expect("cannot create a socket pair");
        let (sender, woken) = mpsc::channel();
        let wake = move || {
            let _ = sender.send(());
        };
        let mut monitor = Monitor::start(ours, wake).expect("cannot start a thread");
        assert!(!monitor.is_closed());
        drop(theirs);
        woken.recv_timeout(TIMEOUT).expect("the caller must be woken");
        assert!(monitor.is_closed());
        assert!(monitor.registers().starts_with("no registers: "));
    }
}
