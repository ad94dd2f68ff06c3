//! Writes shell scripts that tests execute in place of other programs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes an executable shell script. A child process writes the file. If the test itself opened it for writing, a
/// child that another test starts at the same time would inherit the open file until its `exec`. Until then the script
/// could not be executed (ETXTBSY).
pub fn write(path: &Path, commands: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("cannot start sh");
    let mut input = writer.stdin.take().expect("cannot create a pipe");
    writeln!(input, "#!/bin/sh\n{commands}").expect("cannot send the script to sh");
    drop(input);
    assert!(writer.wait().expect("cannot wait for sh").success(), "cannot write {}", path.display());
}
