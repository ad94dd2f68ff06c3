use super::*;

/// Returns whether the process has ended and its parent has not collected its status (proc(5), `/proc/PID/stat`).
fn is_zombie(process: &str) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    text.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[test]
fn lines_that_arrive_while_the_caller_works_are_not_lost() {
    let mut command = Command::new("sh");
    // The pause lets the caller's work begin before the last lines. If it comes too late, they arrive early.
    command.args(["-c", "echo $$; sleep 0.2; echo record; echo verdict; exit 33"]);
    let mut lines = Vec::new();
    let pause = Duration::from_millis(1);
    let ended =
        watch_command(command, false, None, &[], Some(pause), |line, _| match (line, lines.first()) {
            (Some(line), _) => lines.push(String::from_utf8_lossy(line).into_owned()),
            // Work until the process has printed everything and ended.
            (None, Some(process)) => {
                while !is_zombie(process) {
                    std::thread::yield_now();
                }
                // Let the thread that reads the monitor notice it.
                std::thread::sleep(Duration::from_millis(50));
            }
            (None, None) => {}
        });
    assert_eq!(ended.expect("sh must start").ending, Ending::Status(33));
    assert_eq!(lines.get(1..), Some(&["record".to_owned(), "verdict".to_owned()][..]));
}
