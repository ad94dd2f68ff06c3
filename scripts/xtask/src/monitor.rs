//! QEMU's monitor, asked once: what were the CPUs doing when the time was up?

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
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

/// Stops the machine and returns the state of all its CPUs, or why there is none.
pub fn registers(socket: UnixStream) -> String {
    let (sender, receiver) = mpsc::channel();
    // In a thread of its own, so that no answer, or half of one, can hold up the end of the run. The
    // thread ends with QEMU, which the caller ends next, at the latest.
    std::thread::spawn(move || {
        let _ = sender.send(ask(&socket).unwrap_or_else(|error| format!("no registers: {error}\n")));
    });
    receiver
        .recv_timeout(BOUND)
        .unwrap_or_else(|_| "no registers: QEMU's monitor does not answer\n".to_owned())
}

/// A monitor that has said its name, over a socket.
pub type Monitor<S> = Qmp<Stream<BufReader<S>, S>>;

/// Begins to speak with the monitor at the other end of `reader` and `writer`, which are one socket.
pub fn greet<S: Read + Write>(reader: S, writer: S) -> Result<Monitor<S>, qapi::ExecuteError> {
    let mut reader = BufReader::new(reader);
    if reader.fill_buf()?.is_empty() {
        // `handshake` would panic.
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    let mut monitor = Qmp::new(Stream::new(reader, writer));
    monitor.handshake()?;
    Ok(monitor)
}

fn ask(socket: &UnixStream) -> Result<String, qapi::ExecuteError> {
    let mut monitor = greet(socket, socket)?;
    monitor.execute(&qmp::stop {})?;
    let mut text = String::new();
    for question in QUESTIONS {
        let command = qmp::human_monitor_command { command_line: question.to_owned(), cpu_index: None };
        let answer = monitor.execute(&command)?;
        text += &format!("(qemu) {question}\n{}\n", answer.replace('\r', "").trim_end());
    }
    Ok(text)
}
