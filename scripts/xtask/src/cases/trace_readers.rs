//! Reads a trace with independent tools, which must show the same events at the same times.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use machine::tree::root;

/// Hint on how to install the tools.
const SET_UP: &str = "run ./scripts/setup.sh --dev";

/// Compares the trace's CTF, as read by babeltrace2, with its text: both must have the same events, each at the same
/// time on the same CPU. Returns the number of events. Converted files are written to `folder`.
pub fn with_babeltrace2(trace: &Path, folder: &Path) -> Result<usize, String> {
    let (ctf, text) = (folder.join("ctf"), folder.join("text"));
    convert(trace, &[("--ctf", &ctf), ("--text", &text)])?;
    let mut command = Command::new("babeltrace2");
    command.args(["--no-delta", "--clock-seconds", "--names", "none"]).arg(&ctf);
    let output = run(command, "babeltrace2")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !errors.is_empty() {
        return Err(format!("babeltrace2 printed: {errors}"));
    }
    let theirs = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = std::fs::read_to_string(&text).map_err(|error| format!("{}: {error}", text.display()))?;
    // babeltrace2 prints `[12.000000345] tick: { 0 }, { 1, 0x2 }`, our text `[    12.000000345] cpu0 tick ...`. Events
    // in the same nanosecond on different CPUs may be in either order, so sort them.
    let theirs = sorted(&theirs, their_event)?;
    let ours = sorted(&ours, our_event)?;
    if ours.len() != theirs.len() {
        return Err(format!("{} events in the text, {} for babeltrace2", ours.len(), theirs.len()));
    }
    match ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs) {
        None => Ok(ours.len()),
        Some((ours, theirs)) => Err(format!("{ours:?} in the text is {theirs:?} for babeltrace2")),
    }
}

/// Compares the Perfetto file, as parsed by Perfetto's own protobuf classes, with the text. Returns the output of the
/// comparison.
pub fn with_perfetto(trace: &Path, folder: &Path) -> Result<String, String> {
    let (pftrace, text) = (folder.join("out.pftrace"), folder.join("text"));
    convert(trace, &[("--pftrace", &pftrace), ("--text", &text)])?;
    let mut command = Command::new(root().join("target/python/bin/python3"));
    command.arg(root().join("scripts/xtask/src/cases/read_perfetto.py")).arg(&pftrace).arg(&text);
    let output = run(command, "Python with Perfetto's package, in target/python")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The time, CPU and kind of an event.
type Event = (String, String, String);

fn sorted(text: &str, event: fn(&str) -> Option<Event>) -> Result<Vec<Event>, String> {
    let event = |line: &str| event(line).ok_or(format!("{line:?} is not an event"));
    let mut events: Vec<_> = text.lines().map(event).collect::<Result<_, _>>()?;
    events.sort();
    Ok(events)
}

fn our_event(line: &str) -> Option<Event> {
    let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
    let mut words = rest.split_whitespace();
    let cpu = words.next()?.strip_prefix("cpu")?;
    Some((time.trim().to_owned(), cpu.to_owned(), words.next()?.to_owned()))
}

fn their_event(line: &str) -> Option<Event> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (kind, rest) = rest.split_once(": { ")?;
    let (cpu, _) = rest.split_once(" }")?;
    Some((time.to_owned(), cpu.to_owned(), kind.to_owned()))
}

/// Converts a trace with `xtask trace`.
pub fn convert(trace: &Path, outputs: &[(&str, &Path)]) -> Result<(), String> {
    let mut words = vec![trace.as_os_str().to_owned()];
    for (option, path) in outputs {
        words.extend([option.into(), path.as_os_str().to_owned()]);
    }
    let options = machine::options::parse(words).map_err(|error| error.to_string())?;
    ::trace::run(&options, machine::traced::find).map(drop).map_err(|error| error.to_string())
}

/// Runs one of the tools. A missing tool is an error, because nothing would be compared.
fn run(mut command: Command, name: &str) -> Result<Output, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {name}: {SET_UP}"),
        _ => format!("cannot start {name}: {error}"),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn babeltrace2_reads_the_same_events_and_times() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("x.rtrace");
        let words = ["--synthesize".as_ref(), "20001".as_ref(), path.as_os_str()];
        ::trace::run(&machine::options::parse(words).expect("cannot parse"), |_| None).expect("cannot write");
        assert_eq!(with_babeltrace2(&path, folder.path()), Ok(20_000));
    }
}
