//! Tests that QEMU is killed when the host tool ends, even if a signal kills the tool.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests write their own files, and a failed write fails the test"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

mod script;

#[test]
fn qemu_dies_with_the_tool() {
    // HUP and INT are not tested, because `nohup` and `&` make a child ignore them.
    for signal in [Signal::TERM, Signal::KILL] {
        assert!(ends_with_its_tool(signal), "{signal:?}");
    }
}

fn ends_with_its_tool(signal: Signal) -> bool {
    let folder = tempfile::tempdir().expect("cannot create a directory");
    let qemu = folder.path().join("qemu");
    // This script replaces QEMU. It prints its process id and then sleeps.
    script::write(&qemu, "echo \"pid $$\"\nexec sleep 1000");
    let mut tool = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["run", "--as-built", "--timeout", "600", "--qemu"])
        .arg(&qemu)
        .arg("hello")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("cannot start the host tool");
    let lines = BufReader::new(tool.stdout.take().expect("there must be an output")).lines();
    let qemu = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("pid ").map(str::to_owned))
        .expect("the script must print its process id");
    assert!(is_alive(&qemu));
    kill_process(Pid::from_child(&tool), signal).expect("cannot send the signal");
    let until = Instant::now() + Duration::from_secs(30);
    let ended = |tool: &mut Child| tool.try_wait().is_ok_and(|status| status.is_some());
    while (!ended(&mut tool) || is_alive(&qemu)) && Instant::now() < until {
        std::thread::yield_now();
    }
    if !ended(&mut tool) {
        tool.kill().and_then(|()| tool.wait()).expect("cannot kill the tool");
        return false;
    }
    !is_alive(&qemu)
}

/// Returns whether the process is running. A zombie is not running.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}
