//! How the number of system calls grew on each CPU, in as many points as a picture can show, however long it took.

use std::time::Duration;

/// Points that are kept at most. Then every other goes, and from then on half as many are taken.
const POINTS: usize = 512;
/// The time between two points at first.
const FIRST: Duration = Duration::from_millis(20);

/// Points in time, with each CPU's calls so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    points: Vec<(Duration, Vec<u64>)>,
    every: Duration,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples { points: Vec::new(), every: FIRST }
    }
}

impl Samples {
    /// The time between two points, at this stage.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Adds a point, the newest. It takes the place of the one before if that is too near to its own predecessor. A time
    /// before that one's counts as the same: the last look is made at the time of the verdict, and QEMU ended later.
    pub fn push(&mut self, time: Duration, calls: Vec<u64>) {
        let time = self.points.last().map_or(time, |(last, _)| time.max(*last));
        let same_time = self.points.last().is_some_and(|(last, _)| *last == time);
        let too_near =
            matches!(&self.points[..], [.., (before, _), (last, _)] if *last - *before < self.every);
        if same_time || too_near {
            self.points.pop();
        }
        self.points.push((time, calls));
        if self.points.len() > POINTS {
            let mut place = 0;
            // The first point stays, and so does the newest.
            let newest = self.points.len() - 1;
            self.points.retain(|_| {
                place += 1;
                (place - 1) % 2 == 0 || place - 1 == newest
            });
            self.every *= 2;
        }
    }

    /// Calls a second of each CPU, over at least the last `over`, or all there is.
    pub fn rates(&self, over: Duration) -> Vec<f64> {
        let Some((end, last)) = self.points.last() else { return Vec::new() };
        let from = self.points.iter().rev().find(|(time, _)| *end - *time >= over).or(self.points.first());
        from.map_or(Vec::new(), |from| speed(from, &(*end, last.clone())))
    }

    /// The end of each stretch between two points in seconds, and each CPU's calls a second in it.
    pub fn speeds(&self) -> Vec<(f64, Vec<f64>)> {
        self.points.windows(2).map(|pair| (pair[1].0.as_secs_f64(), speed(&pair[0], &pair[1]))).collect()
    }

    /// Each CPU's calls at the last point.
    pub fn last(&self) -> &[u64] {
        self.points.last().map_or(&[], |(_, calls)| calls)
    }
}

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
    fn speeds_are_calls_a_second_between_two_points() {
        let mut samples = Samples::default();
        assert_eq!((samples.rates(ms(1000)), samples.speeds()), (vec![], vec![]));
        samples.push(ms(100), vec![0, 10]);
        samples.push(ms(200), vec![50, 10]);
        samples.push(ms(700), vec![150, 20]);
        assert_eq!(samples.speeds(), [(0.2, vec![500.0, 0.0]), (0.7, vec![200.0, 20.0])]);
        assert_eq!(samples.rates(ms(500)), [200.0, 20.0]);
        assert_eq!(samples.rates(ms(501)), [250.0, 10.0 / 0.6]);
        samples.push(ms(700), vec![250, 20]);
        assert_eq!(samples.speeds()[1], (0.7, vec![400.0, 20.0]), "the newer of one time");
        samples.push(ms(150), vec![300, 20]);
        assert_eq!(samples.speeds()[1], (0.7, vec![500.0, 20.0]), "of an earlier time, too");
    }

    #[test]
    fn a_long_boot_is_thinned_out_and_keeps_its_ends() {
        let mut samples = Samples::default();
        for n in 0..10 * POINTS as u64 {
            samples.push(ms(20 * n), vec![n]);
            assert!(samples.points.len() <= POINTS + 1);
        }
        assert_eq!(samples.points.first(), Some(&(ms(0), vec![0])));
        assert_eq!(samples.last(), [10 * POINTS as u64 - 1]);
        assert!(samples.points.is_sorted());
        // A call every 20 ms all the time.
        assert!(samples.speeds().iter().all(|(_, speed)| (speed[0] - 50.0).abs() < 1e-6));
        assert!(samples.every() > ms(100));
        // However far apart the points are, the newest is always there.
        for n in 1..10 {
            samples.push(ms(20 * (10 * POINTS as u64) + n), vec![n]);
            assert_eq!(samples.last(), [n]);
        }
    }
}
