//! Cases with a program that is restarted many times and ends in every possible way.

use super::{Case, case};

/// Returns the cases. If a page frame is not freed, the kernel reports a violated invariant (status 3).
pub fn cases() -> Vec<Case> {
    vec![
        // Each copy of the program checks that no state of the previous copy is left, and that the kernel recorded
        // correctly how the previous copy ended.
        (0..4).fold(
            case("repeat::ten-thousand-starts", "--smp 4 --repeat 2500 --cmdline deaths=go-on", "restart")
                .exits_on(4)
                .shows("10000 starts: 2503 copies exited, 7497 were killed"),
            |case, cpu| case.shows(format!("[cpu{cpu}] restart: 2500 rounds, each started from fresh state")),
        ),
        time_limit("repeat::time-limit", ""),
        // A tick with other work takes a different path.
        time_limit("repeat::time-limit-with-traced-ticks", " trace=tick"),
        case("repeat::killed-program-is-not-restarted", "--smp 2 --repeat 5", "fault ud2 1")
            .status(1)
            .exits_on(1)
            .killed_on(1, "#UD")
            .shows("6 starts: 5 copies exited, 1 was killed"),
        case(
            "repeat::failed-program-is-not-restarted",
            "--smp 1 --repeat 5 --cmdline deaths=go-on",
            "fault exit-code 0",
        )
        .status(1)
        .complains("CPU 0: fault exited with code 7"),
    ]
}

/// A case in which some copies never end by themselves.
fn time_limit(name: &str, keys: &str) -> Case {
    let options = format!("--smp 2 --repeat 11 --cmdline 'deaths=go-on limit_ticks=10{keys}' --timeout 30");
    case(name, &options, "restart --spin").exits_on(2).shows("22 starts: 6 copies exited, 16 were killed")
}
