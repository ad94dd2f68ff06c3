//! QEMU's monitor: reads the CPU state after a time-out, and runs the user's monitor commands.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::qmp::{Qmp, QmpError};

/// Time limit for an entire exchange with the monitor. A QEMU that hangs does not answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The commands that read the CPU state, in this order.
const STATE_COMMANDS: [&str; 3] = ["info cpus", "info registers -a", "info lapic"];

/// Waits until QEMU has set up the machine, because only then does it answer on its monitor. Returns false on time-out.
pub fn is_ready(socket: UnixStream) -> bool {
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::Builder::new().spawn(move || {
        let _ = sender.send(Qmp::greet(&socket, &socket).is_ok());
    });
    reader.is_ok() && receiver.recv_timeout(TIMEOUT).unwrap_or(false)
}

/// The monitor of a running machine.
pub struct Monitor {
    socket: Arc<UnixStream>,
    /// Whether the greeting, which QEMU sends only once, has been exchanged.
    greeted: bool,
}

impl Monitor {
    /// Creates a monitor whose QEMU holds the other end of this socket.
    pub fn new(socket: UnixStream) -> Monitor {
        Monitor { socket: Arc::new(socket), greeted: false }
    }

    /// Stops the machine and returns the state of all its CPUs, or the error as text.
    pub fn registers(&mut self) -> String {
        self.with_timeout(|monitor| {
            monitor.execute("stop")?;
            STATE_COMMANDS.iter().map(|command| human(monitor, command)).collect()
        })
        .unwrap_or_else(|error| format!("no registers: {error}\n"))
    }

    /// Runs a command of the human monitor. Returns the command followed by its answer, or by the error as text.
    pub fn command(&mut self, command: &str) -> String {
        let owned = command.to_owned();
        let answer = self.with_timeout(move |monitor| human(monitor, &owned));
        answer.unwrap_or_else(|error| format!("(qemu) {command}\n{error}\n"))
    }

    /// Runs an exchange in a separate thread, so that a missing or incomplete answer cannot delay the end of the run.
    /// The thread ends when QEMU ends, if not before.
    fn with_timeout(
        &mut self,
        talk: impl FnOnce(&mut Qmp<&UnixStream>) -> Result<String, QmpError> + Send + 'static,
    ) -> Result<String, String> {
        let (sender, receiver) = mpsc::channel();
        let socket = self.socket.clone();
        let greeted = std::mem::replace(&mut self.greeted, true);
        let exchange = std::thread::Builder::new().spawn(move || {
            let monitor =
                if greeted { Ok(Qmp::greeted(&*socket, &*socket)) } else { Qmp::greet(&*socket, &*socket) };
            let _ = sender.send(monitor.and_then(|mut monitor| talk(&mut monitor)));
        });
        if let Err(error) = exchange {
            return Err(format!("cannot start a thread: {error}"));
        }
        match receiver.recv_timeout(TIMEOUT) {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("QEMU's monitor does not answer".to_owned()),
        }
    }
}

/// Runs a command. Returns the command and its answer as a terminal would show them.
fn human(monitor: &mut Qmp<&UnixStream>, command: &str) -> Result<String, QmpError> {
    let answer = monitor.human(command)?;
    Ok(format!("(qemu) {command}\n{}\n", answer.replace('\r', "").trim_end()))
}
