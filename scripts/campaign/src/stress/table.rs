//! Formats a campaign's result as text: one line for each boot, the totals, and each failure with its replay command.

use std::fmt::Write;

use machine::report::{aligned, sum};
use output::{printable, printable_lines};

use super::result::{Boot, Campaign};

/// The columns, and whether each is right-aligned.
const COLUMNS: [(&str, bool); 6] = [
    ("SEED", true),
    ("OUTCOME", false),
    ("CALLS", true),
    ("CALLS/S", true),
    ("SECONDS", true),
    ("FIRST PROBLEM", false),
];

/// Maximum length of a problem in the table, in characters. The full text is printed below the table.
const PROBLEM_WIDTH: usize = 90;

/// Formats the complete text.
pub fn text(campaign: &Campaign) -> String {
    let mut text = String::new();
    if !campaign.boots.is_empty() {
        text += &aligned(&COLUMNS, campaign.boots.iter().map(cells));
    }
    text += &totals(campaign);
    for boot in campaign.boots.iter().filter(|boot| !boot.passed()) {
        text.push('\n');
        text += &failure(boot);
    }
    text
}

/// Formats a boot's cells.
fn cells(boot: &Boot) -> [String; COLUMNS.len()] {
    let first = boot.problems.first().map_or("", |problem| problem.what.as_str());
    let first = printable(first.lines().next().unwrap_or("").as_bytes());
    let mut shown: String = first.chars().take(PROBLEM_WIDTH).collect();
    if shown.len() < first.len() {
        shown += "...";
    }
    [
        boot.seed.to_string(),
        boot.outcome.name().to_owned(),
        boot.syscalls().to_string(),
        format!("{:.0}", rate(boot.syscalls(), boot.seconds)),
        format!("{:.2}", boot.seconds),
        shown,
    ]
}

/// Returns the number of calls per second.
fn rate(calls: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { calls as f64 / seconds } else { 0.0 }
}

/// Formats the totals as one line.
pub fn totals(campaign: &Campaign) -> String {
    let boots = &campaign.boots;
    let calls = sum(boots.iter().map(Boot::syscalls));
    let seconds: f64 = boots.iter().map(|boot| boot.seconds).sum();
    let passed = boots.iter().filter(|boot| boot.passed()).count();
    let mut text = format!(
        "{}: {passed} of {} passed; {} in {seconds:.1} s of guest time, {:.0} per second",
        campaign.outcome,
        output::count(boots.len() as u64, "boot"),
        output::count(calls, "system call"),
        rate(calls, seconds)
    );
    if !campaign.not_booted.is_empty() {
        let _ = write!(text, "; seeds not booted: {}", campaign.not_booted.len());
    }
    text + "\n"
}

/// Formats a failed boot: its problems, its replay command and its log.
pub fn failure(boot: &Boot) -> String {
    let mut text = format!("seed {}: {}\n", boot.seed, boot.outcome.name());
    for problem in &boot.problems {
        text += &format!("  {}\n", printable_lines(problem.what.trim_end()).replace('\n', "\n  "));
    }
    text += &format!("  reproduce with: {}\n", printable(boot.replay.as_bytes()));
    if let Some(log) = &boot.log {
        text += &format!("  log: {}\n", printable(log.as_os_str().as_encoded_bytes()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::boot;
    use super::super::seeds::Seed;
    use super::*;
    use machine::verify::Outcome;

    #[test]
    fn table_has_boots_totals_and_failures() {
        let mut failed = boot(31, Outcome::Failed);
        failed.seconds = 0.0;
        let campaign = Campaign::of(vec![boot(1, Outcome::Pass), failed], vec![Seed(5)]);
        let expected = "\
SEED  OUTCOME  CALLS  CALLS/S  SECONDS  FIRST PROBLEM
 0x1  pass      2000     4000     0.50
0x1f  failed    2000        0     0.00  CPU 1: violation: rbx
failed: 1 of 2 boots passed; 4000 system calls in 0.5 s of guest time, 8000 per second; seeds not booted: 1

seed 0x1f: failed
  CPU 1: violation: rbx
  reproduce with: cargo xtask stress --smp 2 --seed 0x1f
  log: target/stress-logs/31.log
";
        assert_eq!(text(&campaign), expected);
    }

    #[test]
    fn control_characters_of_a_result_file_are_escaped() {
        let mut failed = boot(1, Outcome::Host);
        failed.problems[0].what = "a\u{1b}[2J\nb\u{202e}".to_owned();
        failed.replay = "cargo\u{7}".to_owned();
        failed.log = Some("\u{1b}c.log".into());
        let text = text(&Campaign::of(vec![failed], vec![]));
        assert!(text.contains("  a\\x1b[2J\n  b\\u{202e}\n"), "{text}");
        assert!(text.contains("reproduce with: cargo\\x07\n") && text.contains("\\x1bc.log\n"), "{text}");
        assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "{text}");
    }

    #[test]
    fn long_problem_is_truncated_only_in_the_table() {
        let mut failed = boot(1, Outcome::Host);
        failed.problems[0].what = format!("{}\nsecond line", "x".repeat(200));
        let text = text(&Campaign::of(vec![failed], vec![]));
        assert!(text.contains(&format!("  {}...\n", "x".repeat(PROBLEM_WIDTH))), "{text}");
        assert!(text.contains(&format!("  {}\n  second line\n", "x".repeat(200))), "{text}");
    }
}
