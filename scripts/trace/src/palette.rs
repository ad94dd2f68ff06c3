//! Colours of system calls in pictures.

use std::fmt::Write;

use kernel_abi::syscall::{Call, TABLE_LEN};

/// A colour for each entry of the system-call table, so that a new call already has one. The first ones are from Okabe
/// and Ito's palette, which colour-blind people can distinguish. All are light enough for black labels.
const CALLS: [&str; TABLE_LEN] = [
    "#56b4e9", "#e69f00", "#35b58c", "#a9a9a9", "#f0e442", "#c9c9c9", "#cc79a7", "#7fa8f5", "#9dd9a3",
    "#d4b483", "#b39ddb", "#f4a6a0", "#80cbc4", "#c5e06e", "#ffcc80", "#b7a298",
];
/// The colour for numbers without a system call.
const OTHER: &str = "#ee7c33";

/// Returns each call and its colour.
fn calls() -> impl Iterator<Item = (Call, &'static str)> {
    Call::ALL.into_iter().zip(CALLS)
}

/// Returns the CSS rules for an SVG: classes `call0`, `call1`, ..., and `other`.
pub fn classes() -> String {
    let mut text = String::new();
    for (call, colour) in calls() {
        // Writing to a `String` cannot fail, here and below.
        let _ = writeln!(text, ".call{} {{ fill: {colour}; }}", call.number());
    }
    text + &format!(".other {{ fill: {OTHER}; }}\n")
}

/// Returns the CSS variables: `--call0`, `--call1` and so on, then one for numbers without a system call, and one for
/// idle time. The last is set to `--idle`, which the style sheet must define.
pub fn variables() -> String {
    let mut text = String::from(":root {");
    for (call, colour) in calls() {
        let _ = write!(text, " --call{}: {colour};", call.number());
    }
    let (other, idle) = (Call::ALL.len(), Call::ALL.len() + 1);
    text + &format!(" --call{other}: {OTHER}; --call{idle}: var(--idle); }}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn colours_are_distinct() {
        let colours: BTreeSet<_> = CALLS.into_iter().chain([OTHER]).collect();
        assert_eq!(colours.len(), TABLE_LEN + 1);
    }

    #[test]
    fn every_call_has_a_class_and_a_variable() {
        let (classes, variables) = (classes(), variables());
        for call in Call::ALL {
            let number = call.number();
            assert!(classes.contains(&format!(".call{number} {{")), "{} in {classes}", call.name());
            assert!(variables.contains(&format!(" --call{number}: #")), "{} in {variables}", call.name());
        }
    }
}
