//! QEMU's monitor: what were the CPUs doing when the time was up? And commands that the user has for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use qapi::{Qmp, Stream, qmp};

/// How long a question may take in all. A QEMU that is stuck itself does not answer.
const BOUND: Duration = Duration::from_secs(10);

/// What is asked of the monitor, and in which order.
const QUESTIONS: [&str; 3] = ["info cpus", "info registers -a", "info lapic"];

/// Waits until QEMU has set everything up: it answers its monitor only then. False: it never did.
pub fn is_ready(socket: UnixStream) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(greet(&socket, &socket).is_ok());
    });
    receiver.recv_timeout(BOUND).unwrap_or(false)
}

/// The monitor of a machine that runs.
pub struct Monitor {
    socket: Arc<UnixStream>,
    /// It greets once.
    greeted: bool,
}

impl Monitor {
    /// The monitor at the other end of this socket.
    pub fn new(socket: UnixStream) -> Monitor {
        Monitor { socket: Arc::new(socket), greeted: false }
    }

    /// Stops the machine and returns the state of all its CPUs, or why there is none.
    pub fn registers(&mut self) -> String {
        self.in_time(|monitor| {
            monitor.execute(&qmp::stop {})?;
            QUESTIONS.iter().map(|question| ask(monitor, question)).collect()
        })
        .unwrap_or_else(|error| format!("no registers: {error}\n"))
    }

    /// Gives a command as a person would type it. Returns it with its answer, or why there is none.
    pub fn command(&mut self, command: &str) -> String {
        let owned = command.to_owned();
        let answer = self.in_time(move |monitor| ask(monitor, &owned));
        answer.unwrap_or_else(|error| format!("(qemu) {command}\n{error}\n"))
    }

    /// Talks to the monitor in a thread of its own, so that no answer, or half of one, can hold up the end of the run.
    /// The thread ends with QEMU at the latest.
    fn in_time(
        &mut self,
        talk: impl FnOnce(&mut Greeted<&UnixStream>) -> Result<String, qapi::ExecuteError> + Send + 'static,
    ) -> Result<String, String> {
        let (sender, receiver) = mpsc::channel();
        let socket = self.socket.clone();
        let greeted = std::mem::replace(&mut self.greeted, true);
        std::thread::spawn(move || {
            let monitor = if greeted {
                Ok(Qmp::new(Stream::new(BufReader::new(&*socket), &*socket)))
            } else {
                greet(&*socket, &*socket)
            };
            let _ = sender.send(monitor.and_then(|mut monitor| talk(&mut monitor)));
        });
        match receiver.recv_timeout(BOUND) {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("QEMU's monitor does not answer".to_owned()),
        }
    }
}

/// A monitor that has said its name, over a socket.
pub type Greeted<S> = Qmp<Stream<BufReader<S>, S>>;

/// Begins to speak with the monitor at the other end of `reader` and `writer`, which are one socket.
pub fn greet<S: Read + Write>(reader: S, writer: S) -> Result<Greeted<S>, qapi::ExecuteError> {
    let mut reader = BufReader::new(reader);
    if reader.fill_buf()?.is_empty() {
        // `handshake` would panic.
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    let mut monitor = Qmp::new(Stream::new(reader, writer));
    monitor.handshake()?;
    Ok(monitor)
}

/// A command and its answer, as at a terminal.
fn ask(monitor: &mut Greeted<&UnixStream>, question: &str) -> Result<String, qapi::ExecuteError> {
    let command = qmp::human_monitor_command { command_line: question.to_owned(), cpu_index: None };
    let answer = monitor.execute(&command)?;
    Ok(format!("(qemu) {question}\n{}\n", answer.replace('\r', "").trim_end()))
}
