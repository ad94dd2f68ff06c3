//! Samples each CPU's number of system calls over time. The number of samples is bounded, however long the boot takes.

use std::time::Duration;

/// Maximum number of samples. When it is reached, every other sample is dropped and the interval is doubled.
const POINTS_MAX: usize = 512;
/// The initial time between two samples.
const INITIAL_INTERVAL: Duration = Duration::from_millis(20);

/// Samples: the time since QEMU's start, and each CPU's calls until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    points: Vec<(Duration, Vec<u64>)>,
    interval: Duration,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples { points: Vec::new(), interval: INITIAL_INTERVAL }
    }
}

impl Samples {
    /// Returns the current time between two samples.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Adds a sample. The new sample replaces the latest one if the latest two are closer than the interval. A time
    /// before the latest one is treated as equal to it: the final sample has the time of the verdict, which may precede
    /// the latest sample.
    pub fn push(&mut self, time: Duration, calls: Vec<u64>) {
        let time = self.points.last().map_or(time, |(last, _)| time.max(*last));
        let same_time = self.points.last().is_some_and(|(last, _)| *last == time);
        let too_close =
            matches!(&self.points[..], [.., (before, _), (last, _)] if *last - *before < self.interval);
        if same_time || too_close {
            self.points.pop();
        }
        self.points.push((time, calls));
        if self.points.len() > POINTS_MAX {
            let mut index = 0;
            // Keeps the first sample and the newest.
            let newest = self.points.len() - 1;
            self.points.retain(|_| {
                index += 1;
                (index - 1) % 2 == 0 || index - 1 == newest
            });
            self.interval *= 2;
        }
    }

    /// Returns each CPU's calls per second over at least the duration `over` before the latest sample, or over all
    /// samples if they span less.
    pub fn rates(&self, over: Duration) -> Vec<f64> {
        let Some((end, last)) = self.points.last() else { return Vec::new() };
        let from = self.points.iter().rev().find(|(time, _)| *end - *time >= over).or(self.points.first());
        from.map_or(Vec::new(), |from| speed(from, &(*end, last.clone())))
    }

    /// For each pair of successive samples, returns the later time in seconds and each CPU's calls per second between
    /// them.
    pub fn speeds(&self) -> Vec<(f64, Vec<f64>)> {
        self.points.windows(2).map(|pair| (pair[1].0.as_secs_f64(), speed(&pair[0], &pair[1]))).collect()
    }

    /// Returns each CPU's calls at the latest sample.
    pub fn last(&self) -> &[u64] {
        self.points.last().map_or(&[], |(_, calls)| calls)
    }
}

/// Returns each CPU's calls per second between two samples.
fn speed(from: &(Duration, Vec<u64>), to: &(Duration, Vec<u64>)) -> Vec<f64> {
    let seconds = (to.0 - from.0).as_secs_f64();
    let one = |(from, to): (&u64, &u64)| {
        if seconds > 0.0 { to.saturating_sub(*from) as f64 / seconds } else { 0.0 }
    };
    from.1.iter().zip(&to.1).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn speeds_are_calls_per_second_between_samples() {
        let mut samples = Samples::default();
        assert_eq!((samples.rates(ms(1000)), samples.speeds()), (vec![], vec![]));
        samples.push(ms(100), vec![0, 10]);
        samples.push(ms(200), vec![50, 10]);
        samples.push(ms(700), vec![150, 20]);
        assert_eq!(samples.speeds(), [(0.2, vec![500.0, 0.0]), (0.7, vec![200.0, 20.0])]);
        assert_eq!(samples.rates(ms(500)), [200.0, 20.0]);
        assert_eq!(samples.rates(ms(501)), [250.0, 10.0 / 0.6]);
        samples.push(ms(700), vec![250, 20]);
        assert_eq!(samples.speeds()[1], (0.7, vec![400.0, 20.0]), "the newer sample of the same time");
        samples.push(ms(150), vec![300, 20]);
        assert_eq!(samples.speeds()[1], (0.7, vec![500.0, 20.0]), "an earlier time counts as equal");
    }

    #[test]
    fn long_boot_is_thinned_and_keeps_first_and_last() {
        let mut samples = Samples::default();
        for n in 0..10 * POINTS_MAX as u64 {
            samples.push(ms(20 * n), vec![n]);
            assert!(samples.points.len() <= POINTS_MAX + 1);
        }
        assert_eq!(samples.points.first(), Some(&(ms(0), vec![0])));
        assert_eq!(samples.last(), [10 * POINTS_MAX as u64 - 1]);
        assert!(samples.points.is_sorted());
        // One call every 20 ms.
        assert!(samples.speeds().iter().all(|(_, speed)| (speed[0] - 50.0).abs() < 1e-6));
        assert!(samples.interval() > ms(100));
        // The newest sample is kept even if the interval has not passed.
        for n in 1..10 {
            samples.push(ms(20 * (10 * POINTS_MAX as u64) + n), vec![n]);
            assert_eq!(samples.last(), [n]);
        }
    }
}
