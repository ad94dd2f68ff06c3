//! Invalid kernel command lines: each is rejected with a message that names the key.

use super::{Case, case};

/// The cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, text: &str| {
        let option = shlex::try_quote(text).map_or_else(|_| String::new(), |word| word.into_owned());
        case(format!("cmdline::{name}"), &format!("--smp 2 --cmdline {option}"), "")
            .status(2)
            .complains("the kernel refused its command line")
    };
    vec![
        row("unknown-key", "colour=blue").shows("colour"),
        row("no-value", "tick_hz").shows("tick_hz"),
        row("bad-number", "tick_hz=fast").shows("tick_hz"),
        row("tick-0-hz", "tick_hz=0").shows("tick_hz"),
        row("tick-too-fast", "tick_hz=10001").shows("tick_hz"),
        row("repeat-0-times", "repeat=0").shows("repeat= takes a number from 1 to 1000000000"),
        row("deaths-of-another-kind", "deaths=ignore").shows("deaths= takes 'end' or 'go-on'"),
        row("twice", "tick_hz=10 tick_hz=20").shows("tick_hz"),
        // If a requested failure did not happen, its test would pass; if no CPU ended the run, it would hang.
        row("failure-of-an-absent-cpu", "lose_ap=1 panic_cpu=1").shows("panic_cpu=1: 1 CPUs came online"),
        row("console-held-by-nobody", "lose_ap=1 panic_cpu=0 fail_in=console-held")
            .shows("needs a second CPU"),
        row("console-held-by-each-other", "panic_cpu=0 overflow_cpu=1 fail_in=console-held")
            .shows("fail_in=console-held goes with one failing CPU"),
        row("open-quote", "program=\"hello"),
    ]
}
