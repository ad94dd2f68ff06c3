//! What a user sees while boots run: on a terminal one line a CPU, kept up to date; else plain lines.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use machine::console::printable;

use super::live::Now;
use super::seeds::Seed;

/// How often a boot's lines are brought up to date.
const EVERY: Duration = Duration::from_millis(100);
/// When a boot that is the only one says its first plain lines.
const FIRST_PLAIN: Duration = Duration::from_secs(2);

/// What is known of a CPU while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct View<'a> {
    /// Dense index.
    pub cpu: u32,
    /// What was read in the guest's memory; `None`: nothing can be, or nothing is there yet.
    pub now: Option<Now>,
    /// Written lines that came.
    pub lines: u64,
    /// What it said last that is none.
    pub said: &'a str,
}

/// The screen of a campaign.
pub struct Progress {
    bars: MultiProgress,
    live: bool,
    /// How often a boot says plain lines, if the screen is none.
    plain: Duration,
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
    pub fn new(plain: Duration) -> Progress {
        let live = std::io::stderr().is_terminal();
        Progress { bars: MultiProgress::new(), live, plain }
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
        let next = match (self.live, count) {
            (true, _) => Duration::ZERO,
            (false, 1) => FIRST_PLAIN.min(self.plain),
            (false, _) => self.plain,
        };
        Part { progress: self, seed, head, cpus: Vec::new(), next }
    }
}

impl Part<'_> {
    /// Prints a line that stays.
    pub fn say(&self, text: &str) {
        self.progress.say(text);
    }

    /// Is it time for [`show`](Self::show)? A user cannot follow every change.
    pub fn is_due(&mut self, time: Duration) -> bool {
        let due = time >= self.next;
        if due {
            self.next = time + if self.progress.live { EVERY } else { self.progress.plain };
        }
        due
    }

    /// Brings the boot's lines up to date.
    pub fn show<'v>(&mut self, time: Duration, views: impl Iterator<Item = View<'v>>) {
        if !self.progress.live {
            let rows: String = views.map(|view| format!("\n  {}", row(&view))).collect();
            let rows = if rows.is_empty() { " no CPU has said anything yet" } else { &rows };
            self.progress.say(&format!("seed {}: {} s:{rows}", self.seed, time.as_secs()));
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

/// A CPU's line, which a terminal cuts to its width.
fn row(view: &View<'_>) -> String {
    let View { cpu, now, lines, said } = view;
    let said = printable(said.as_bytes());
    match now {
        // The console is quoted last: it may be long.
        Some(Now { calls, rate, ticks, event }) => {
            let event = event.as_deref().unwrap_or(&said);
            format!("CPU {cpu:<3} {calls:>9} calls {rate:>8.0}/s {ticks:>7} ticks  {event}")
        }
        None => format!("CPU {cpu:<3} {lines:>9} lines  {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(now: Option<Now>, said: &str) -> View<'_> {
        View { cpu: 3, now, lines: 12, said }
    }

    #[test]
    fn a_cpus_row_says_how_far_it_is_and_cannot_move_the_cursor() {
        let now =
            Now { calls: 123_456, rate: 14_000.4, ticks: 880, event: Some("tick ticks=880".to_owned()) };
        assert_eq!(
            row(&view(Some(now.clone()), "")),
            "CPU 3      123456 calls    14000/s     880 ticks  tick ticks=880"
        );
        let untraced = Now { event: None, ..now };
        assert!(row(&view(Some(untraced), "stress: \x1b[2J")).ends_with(" ticks  stress: \\x1b[2J"));
        assert_eq!(row(&view(None, "stress: \x1b[2J")), "CPU 3          12 lines  stress: \\x1b[2J");
    }

    #[test]
    fn without_a_terminal_the_first_plain_line_waits() {
        let plain = Duration::from_secs(10);
        let progress = Progress { bars: MultiProgress::new(), live: false, plain };
        for (count, first) in [(1, FIRST_PLAIN), (2, plain)] {
            let mut part = progress.begin(Seed(1), 1, count);
            assert!(!part.is_due(Duration::ZERO));
            assert!(!part.is_due(first - EVERY));
            assert!(part.is_due(first));
            assert!(!part.is_due(first + plain - EVERY));
            assert!(part.is_due(first + plain));
        }
    }
}
