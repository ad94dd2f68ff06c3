//! What a user sees while boots run: on a terminal one line a CPU, kept up to date; else plain lines.
//!
//! What is known of a CPU comes as a [`View`]. Today all of it is taken from the console; counters that lie in the
//! guest's memory would be fields of it.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::seeds::Seed;
use crate::console::printable;

/// How often a boot's lines are brought up to date.
const EVERY: Duration = Duration::from_millis(100);
/// How often a boot says a plain line.
const EVERY_PLAIN: Duration = Duration::from_secs(10);

/// What is known of a CPU while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// Dense index.
    pub cpu: u32,
    /// Written lines that came.
    pub lines: u64,
    /// What it said last that is none.
    pub event: &'a str,
}

/// The screen of a campaign.
pub struct Progress {
    bars: MultiProgress,
    live: bool,
}

/// The part of the screen that belongs to one boot.
pub struct Part<'a> {
    progress: &'a Progress,
    seed: Seed,
    head: ProgressBar,
    cpus: Vec<ProgressBar>,
    next: Duration,
}

impl Progress {
    /// On standard error.
    pub fn new() -> Progress {
        let live = std::io::stderr().is_terminal();
        Progress { bars: MultiProgress::new(), live }
    }

    /// Prints a line that stays.
    pub fn say(&self, text: &str) {
        // Above the lines that move, if there are any.
        self.bars.suspend(|| eprintln!("{text}"));
    }

    /// A boot begins.
    pub fn begin(&self, seed: Seed, place: usize, count: usize) -> Part<'_> {
        let head = self.bars.add(ProgressBar::new_spinner());
        if self.live {
            head.set_style(style("{spinner} {prefix}  {elapsed}"));
            head.set_prefix(format!("seed {seed} ({place} of {count})"));
            // So that time is seen to pass when the guest says nothing.
            head.enable_steady_tick(EVERY);
        } else if count > 1 {
            self.say(&format!("seed {seed}: begins, {place} of {count}"));
        }
        Part { progress: self, seed, head, cpus: Vec::new(), next: Duration::ZERO }
    }
}

impl Part<'_> {
    /// Prints a line that stays.
    pub fn say(&self, text: &str) {
        self.progress.say(text);
    }

    /// Is it time for [`show`](Self::show)? Most console lines change nothing that a user could follow.
    pub fn is_due(&mut self, time: Duration) -> bool {
        let due = time >= self.next;
        if due {
            let first = self.next.is_zero();
            self.next = time + if self.progress.live { EVERY } else { EVERY_PLAIN };
            return self.progress.live || !first;
        }
        false
    }

    /// Brings the boot's lines up to date.
    pub fn show<'v>(&mut self, time: Duration, views: impl Iterator<Item = View<'v>>) {
        if !self.progress.live {
            let views: Vec<_> = views.collect();
            self.progress.say(&plain(self.seed, time, &views));
            return;
        }
        for (place, view) in views.enumerate() {
            if place == self.cpus.len() {
                let last = self.cpus.last().unwrap_or(&self.head);
                let bar = self.progress.bars.insert_after(last, ProgressBar::new_spinner());
                bar.set_style(style("  {wide_msg}"));
                self.cpus.push(bar);
            }
            self.cpus[place].set_message(row(&view));
        }
    }

    /// The boot has ended; its lines go.
    pub fn end(self) {
        self.cpus.iter().for_each(ProgressBar::finish_and_clear);
        self.head.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are sound; one that is not would look dull, and no more.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A CPU's line on a terminal, which is cut to the terminal's width.
fn row(view: &View<'_>) -> String {
    format!("CPU {:<3} {:>9} lines  {}", view.cpu, view.lines, printable(view.event.as_bytes()))
}

fn plain(seed: Seed, time: Duration, views: &[View<'_>]) -> String {
    let lines: Vec<_> = views.iter().map(|view| view.lines.to_string()).collect();
    let lines = if lines.is_empty() { "none".to_owned() } else { lines.join(" ") };
    format!("seed {seed}: {} s, lines written by CPU: {lines}", time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpus_row_cannot_move_the_cursor() {
        let view = View { cpu: 3, lines: 12, event: "stress: \x1b[2J" };
        assert_eq!(row(&view), "CPU 3          12 lines  stress: \\x1b[2J");
    }

    #[test]
    fn a_plain_line_says_how_far_each_cpu_is() {
        let views = [0, 1].map(|cpu| View { cpu, lines: u64::from(cpu) + 5, event: "" });
        let time = Duration::from_millis(12_300);
        assert_eq!(plain(Seed(7), time, &views), "seed 0x7: 12 s, lines written by CPU: 5 6");
        assert_eq!(plain(Seed(7), time, &[]), "seed 0x7: 12 s, lines written by CPU: none");
    }

    #[test]
    fn without_a_terminal_the_first_plain_line_waits() {
        let progress = Progress { bars: MultiProgress::new(), live: false };
        let mut part = progress.begin(Seed(1), 1, 1);
        assert!(!part.is_due(Duration::ZERO));
        assert!(!part.is_due(EVERY_PLAIN - EVERY));
        assert!(part.is_due(EVERY_PLAIN));
        assert!(!part.is_due(EVERY_PLAIN + EVERY));
    }
}
