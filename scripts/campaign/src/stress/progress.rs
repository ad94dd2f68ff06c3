//! Shows the progress of running boots. On a terminal, one line per CPU is updated in place; otherwise, plain lines are
//! printed at an interval.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use output::{eprintln, noun, printable};

use super::live::CpuStatus;
use super::seeds::Seed;

/// Interval at which a boot's lines are updated on a terminal.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// Time of the first plain lines if the campaign has only one boot.
const FIRST_PLAIN: Duration = Duration::from_secs(2);

/// The state of a running CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuView<'a> {
    /// Dense index.
    pub cpu: u32,
    /// The status read from the guest's memory. `None` if the memory cannot be read or has no counters yet.
    pub status: Option<CpuStatus>,
    /// Numbered lines of the program that were received.
    pub lines: u64,
    /// The CPU's latest line that is not numbered.
    pub message: &'a str,
}

/// The progress display of a campaign.
pub struct Progress {
    bars: MultiProgress,
    live: bool,
    /// Interval between a boot's plain lines, if standard error is not a terminal.
    plain: Duration,
}

/// The progress display of one boot.
pub struct BootDisplay<'a> {
    progress: &'a Progress,
    seed: Seed,
    head: ProgressBar,
    cpus: Vec<ProgressBar>,
    next: Duration,
}

impl Progress {
    /// Creates a display on standard error.
    pub fn new(plain: Duration) -> Progress {
        let live = std::io::stderr().is_terminal();
        Progress { bars: MultiProgress::new(), live, plain }
    }

    /// Prints a line above the updated ones.
    pub fn print(&self, text: &str) {
        self.bars.suspend(|| eprintln!("{text}"));
    }

    /// Starts the display for boot `number` of `count`.
    pub fn begin(&self, seed: Seed, number: usize, count: usize) -> BootDisplay<'_> {
        let head = self.bars.add(ProgressBar::new_spinner());
        if self.live {
            head.set_style(style("{spinner} {prefix}  {elapsed}"));
            head.set_prefix(format!("seed {seed} ({number} of {count})"));
            // Updates the elapsed time while the guest prints nothing.
            head.enable_steady_tick(UPDATE_INTERVAL);
        } else if count > 1 {
            self.print(&format!("seed {seed}: started, {number} of {count}"));
        }
        let next = match (self.live, count) {
            (true, _) => Duration::ZERO,
            (false, 1) => FIRST_PLAIN.min(self.plain),
            (false, _) => self.plain,
        };
        BootDisplay { progress: self, seed, head, cpus: Vec::new(), next }
    }
}

impl BootDisplay<'_> {
    /// Prints a line above the updated ones.
    pub fn print(&self, text: &str) {
        self.progress.print(text);
    }

    /// Returns whether the interval for [`show`](Self::show) has passed.
    pub fn is_due(&mut self, time: Duration) -> bool {
        let due = time >= self.next;
        if due {
            let interval = if self.progress.live { UPDATE_INTERVAL } else { self.progress.plain };
            self.next = time.saturating_add(interval);
        }
        due
    }

    /// Updates or prints the boot's lines.
    pub fn show<'v>(&mut self, time: Duration, views: impl Iterator<Item = CpuView<'v>>) {
        if !self.progress.live {
            let rows: String = views.map(|view| format!("\n  {}", row(&view))).collect();
            let rows = if rows.is_empty() { " no CPU has printed anything yet" } else { &rows };
            self.progress.print(&format!("seed {}: {} s:{rows}", self.seed, time.as_secs()));
            return;
        }
        for (index, view) in views.enumerate() {
            if index == self.cpus.len() {
                let last = self.cpus.last().unwrap_or(&self.head);
                let bar = self.progress.bars.insert_after(last, ProgressBar::new_spinner());
                bar.set_style(style("  {wide_msg}"));
                self.cpus.push(bar);
            }
            self.cpus[index].set_message(row(&view));
        }
    }

    /// Removes the boot's lines.
    pub fn end(self) {
        self.cpus.iter().for_each(ProgressBar::finish_and_clear);
        self.head.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constant and valid; an invalid one would fall back to the default style.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Formats a CPU's line. On a terminal it is truncated to the terminal's width.
fn row(view: &CpuView<'_>) -> String {
    let CpuView { cpu, status, lines, message } = view;
    let message = printable(message.as_bytes());
    match status {
        // The message is last because it may be long.
        Some(CpuStatus { calls, rate, ticks, event }) => {
            let event = event.as_deref().unwrap_or(&message);
            format!(
                "CPU {cpu:<3} {calls:>9} {:<5} {rate:>8.0}/s {ticks:>7} {:<5}  {event}",
                noun(*calls, "call"),
                noun(*ticks, "tick")
            )
        }
        None => format!("CPU {cpu:<3} {lines:>9} {:<5}  {message}", noun(*lines, "line")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(status: Option<CpuStatus>, message: &str) -> CpuView<'_> {
        CpuView { cpu: 3, status, lines: 12, message }
    }

    #[test]
    fn row_has_counts_and_escapes_control_characters() {
        let status = CpuStatus {
            calls: 123_456,
            rate: 14_000.4,
            ticks: 880,
            event: Some("tick ticks=880".to_owned()),
        };
        assert_eq!(
            row(&view(Some(status.clone()), "")),
            "CPU 3      123456 calls    14000/s     880 ticks  tick ticks=880"
        );
        let untraced = CpuStatus { event: None, ..status };
        assert!(row(&view(Some(untraced), "stress: \x1b[2J")).ends_with(" ticks  stress: \\x1b[2J"));
        assert_eq!(row(&view(None, "stress: \x1b[2J")), "CPU 3          12 lines  stress: \\x1b[2J");
    }

    #[test]
    fn first_plain_line_is_delayed() {
        let plain = Duration::from_secs(10);
        let progress = Progress { bars: MultiProgress::new(), live: false, plain };
        for (count, first) in [(1, FIRST_PLAIN), (2, plain)] {
            let mut display = progress.begin(Seed(1), 1, count);
            assert!(!display.is_due(Duration::ZERO));
            assert!(!display.is_due(first - UPDATE_INTERVAL));
            assert!(display.is_due(first));
            assert!(!display.is_due(first + plain - UPDATE_INTERVAL));
            assert!(display.is_due(first + plain));
        }
    }

    #[test]
    fn interval_without_end_has_no_next_time() {
        let plain = Duration::MAX;
        let progress = Progress { bars: MultiProgress::new(), live: false, plain };
        let mut display = progress.begin(Seed(1), 1, 1);
        assert!(display.is_due(FIRST_PLAIN));
        assert!(!display.is_due(Duration::from_secs(1_000_000)));
    }
}
