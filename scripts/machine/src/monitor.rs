//! QEMU's monitor: what were the CPUs doing when the time was up? And commands that the user has for it.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::qmp::{Qmp, QmpError};

/// How long a question may take in all. A QEMU that is stuck itself does not answer.
const BOUND: Duration = Duration::from_secs(10);

/// What is asked of the monitor, and in which order.
const QUESTIONS: [&str; 3] = ["info cpus", "info registers -a", "info lapic"];

/// Waits until QEMU has set everything up: it answers its monitor only then. False: it never did.
pub fn is_ready(socket: UnixStream) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(Qmp::greet(&socket, &socket).is_ok());
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
            monitor.execute("stop")?;
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
        talk: impl FnOnce(&mut Qmp<&UnixStream>) -> Result<String, QmpError> + Send + 'static,
    ) -> Result<String, String> {
        let (sender, receiver) = mpsc::channel();
        let socket = self.socket.clone();
        let greeted = std::mem::replace(&mut self.greeted, true);
        std::thread::spawn(move || {
            let monitor =
                if greeted { Ok(Qmp::greeted(&*socket, &*socket)) } else { Qmp::greet(&*socket, &*socket) };
            let _ = sender.send(monitor.and_then(|mut monitor| talk(&mut monitor)));
        });
        match receiver.recv_timeout(BOUND) {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("QEMU's monitor does not answer".to_owned()),
        }
    }
}

/// A command and its answer, as at a terminal.
fn ask(monitor: &mut Qmp<&UnixStream>, question: &str) -> Result<String, QmpError> {
    let answer = monitor.human(question)?;
    Ok(format!("(qemu) {question}\n{}\n", answer.replace('\r', "").trim_end()))
}
