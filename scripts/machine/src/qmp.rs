//! The parts of the QEMU Machine Protocol (QMP) that this tool needs. Messages are JSON objects, one per line, on a
//! socket.
//!
//! Source: the QEMU documentation, "QEMU Machine Protocol Specification".

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};

use serde_json::{Value, json};

/// The reason why a command has no result.
#[derive(Debug)]
pub enum QmpError {
    /// The connection failed or ended.
    Io(io::Error),
    /// QEMU rejected the command, with this description.
    Refused(String),
    /// QEMU sent a message that violates the protocol.
    Protocol(String),
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QmpError::Io(error) => error.fmt(f),
            QmpError::Refused(text) => write!(f, "QEMU rejected the command: {text}"),
            QmpError::Protocol(text) => write!(f, "unexpected answer from QEMU's monitor: {text}"),
        }
    }
}

impl std::error::Error for QmpError {}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> QmpError {
        QmpError::Io(error)
    }
}

/// A QMP session over one socket. Reading and writing use separate handles.
pub struct Qmp<S> {
    reader: BufReader<S>,
    writer: S,
}

impl<S: Read + Write> Qmp<S> {
    /// Starts a session: waits for QEMU's greeting and completes the capabilities negotiation.
    ///
    /// # Errors
    /// If the connection ends, or the other end does not use QMP.
    pub fn greet(reader: S, writer: S) -> Result<Qmp<S>, QmpError> {
        Qmp::greet_with(reader, writer, || ())
    }

    /// Like [`greet`](Self::greet), but also calls `greeted` when the greeting has arrived.
    ///
    /// # Errors
    /// The errors of [`greet`](Self::greet).
    pub fn greet_with(reader: S, writer: S, greeted: impl FnOnce()) -> Result<Qmp<S>, QmpError> {
        let mut session = Qmp { reader: BufReader::new(reader), writer };
        let greeting = session.receive()?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Protocol(greeting.to_string()));
        }
        greeted();
        session.execute("qmp_capabilities")?;
        Ok(session)
    }

    /// Runs a command without arguments and returns its result.
    ///
    /// # Errors
    /// The errors of [`execute_with`](Self::execute_with).
    pub fn execute(&mut self, command: &str) -> Result<Value, QmpError> {
        self.execute_with(command, json!({}))
    }

    /// Runs a command and returns its result. Skips events that arrive before the result.
    ///
    /// # Errors
    /// If QEMU rejects the command, or the connection ends.
    pub fn execute_with(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.writer.write_all(line.as_bytes())?;
        self.writer.flush()?;
        loop {
            let answer = self.receive()?;
            if answer.get("event").is_none() {
                return result(answer);
            }
        }
    }

    /// Runs a command of the human monitor and returns the text that it prints.
    ///
    /// # Errors
    /// The errors of [`execute_with`](Self::execute_with).
    pub fn human(&mut self, command: &str) -> Result<String, QmpError> {
        match self.execute_with("human-monitor-command", json!({ "command-line": command }))? {
            Value::String(text) => Ok(text),
            other => Err(QmpError::Protocol(other.to_string())),
        }
    }

    /// Waits for the next message: an event or an answer.
    ///
    /// # Errors
    /// If the connection ends, or the message is not JSON.
    pub fn receive(&mut self) -> Result<Value, QmpError> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let shown = || String::from_utf8_lossy(&line).trim_end().to_owned();
        serde_json::from_slice(&line).map_err(|_| QmpError::Protocol(shown()))
    }
}

/// Returns the result in an answer to a command.
///
/// # Errors
/// If QEMU rejected the command, or the message is not an answer.
pub fn result(mut answer: Value) -> Result<Value, QmpError> {
    if let Some(result) = answer.get_mut("return") {
        return Ok(result.take());
    }
    let Some(error) = answer.get("error") else { return Err(QmpError::Protocol(answer.to_string())) };
    let text = error.get("desc").and_then(Value::as_str).map(str::to_owned);
    Err(QmpError::Refused(text.unwrap_or_else(|| error.to_string())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread::{JoinHandle, spawn};

    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
    const DONE: &str = r#"{"return": {}}"#;
    const EVENT: &str = r#"{"timestamp": {}, "event": "STOP"}"#;

    /// Plays the role of QEMU. Each step lists what it sends before it waits for the next command. Returns the commands
    /// received.
    fn qemu(steps: &'static [&'static [&'static str]]) -> (UnixStream, JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().expect("cannot create a socket pair");
        let other = spawn(move || {
            let mut commands = Vec::new();
            let mut reader = BufReader::new(theirs.try_clone().expect("cannot duplicate the handle"));
            for (index, lines) in steps.iter().enumerate() {
                for line in *lines {
                    (&theirs).write_all(format!("{line}\r\n").as_bytes()).expect("cannot send");
                }
                let mut line = String::new();
                if index + 1 < steps.len() && reader.read_line(&mut line).expect("cannot read") > 0 {
                    commands.push(line.trim_end().to_owned());
                }
            }
            commands
        });
        (ours, other)
    }

    #[test]
    fn events_before_an_answer_are_skipped() {
        let (socket, other) =
            qemu(&[&[GREETING], &[EVENT, DONE], &[EVENT, EVENT, r#"{"return": "CPU#0\r\n"}"#]]);
        let mut session = Qmp::greet(&socket, &socket).expect("the greeting must be accepted");
        assert_eq!(session.human("info cpus").expect("there must be an answer"), "CPU#0\r\n");
        let commands = other.join().expect("the other end panicked");
        assert!(commands[0].contains("qmp_capabilities"), "{commands:?}");
        assert!(
            commands[1].contains("human-monitor-command") && commands[1].contains("info cpus"),
            "{commands:?}"
        );
    }

    #[test]
    fn refusal_has_qemus_description() {
        let refusal = r#"{"error": {"class": "CommandNotFound", "desc": "no such command"}}"#;
        let (socket, _other) =
            qemu(Box::leak(Box::new([&[GREETING] as &[_], &[DONE], Box::leak(Box::new([refusal]))])));
        let mut session = Qmp::greet(&socket, &socket).expect("the greeting must be accepted");
        let error = session.execute("nonsense").expect_err("it must be rejected").to_string();
        assert!(error.ends_with("no such command"), "{error}");
    }

    #[test]
    fn closed_connection_or_wrong_protocol_is_an_error() {
        const STEPS: [&[&[&str]]; 4] = [&[&[]], &[&[GREETING]], &[&[r#"{"hello": 1}"#]], &[&["not JSON"]]];
        for steps in STEPS {
            let (socket, other) = qemu(steps);
            other.join().expect("the other end panicked");
            assert!(Qmp::greet(&socket, &socket).is_err());
        }
    }
}
