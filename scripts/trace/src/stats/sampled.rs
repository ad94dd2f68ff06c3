//! A distribution of times: quantiles to three significant digits, and the exact minimum and maximum.

use hdrhistogram::Histogram;

use crate::error::Error;

/// Significant digits of the values in a histogram.
const SIGNIFICANT_DIGITS: u8 = 3;

/// The times that were measured.
pub struct Sampled {
    histogram: Histogram<u32>,
    /// The minimum and the maximum. The histogram has only the limits of their classes.
    range: Option<(u64, u64)>,
}

impl Sampled {
    /// Creates an empty distribution.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new() -> Result<Sampled, Error> {
        let histogram = Histogram::new(SIGNIFICANT_DIGITS).map_err(refused)?;
        Ok(Sampled { histogram, range: None })
    }

    /// Counts a time.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn record(&mut self, ns: u64) -> Result<(), Error> {
        self.record_n(ns, 1)
    }

    /// Counts a time several times.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn record_n(&mut self, ns: u64, count: u64) -> Result<(), Error> {
        self.widen((ns, ns));
        self.histogram.record_n(ns, u32::try_from(count).unwrap_or(u32::MAX)).map_err(refused)
    }

    /// Adds all times of another distribution.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn add(&mut self, other: &Sampled) -> Result<(), Error> {
        other.range.into_iter().for_each(|range| self.widen(range));
        self.histogram.add(&other.histogram).map_err(refused)
    }

    fn widen(&mut self, (min, max): (u64, u64)) {
        let (least, greatest) = self.range.unwrap_or((min, max));
        self.range = Some((least.min(min), greatest.max(max)));
    }

    /// Returns the number of times counted.
    pub fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// Returns the minimum and the maximum, unless the distribution is empty.
    pub fn range(&self) -> Option<(u64, u64)> {
        self.range
    }

    /// Returns a quantile. It is within the range.
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.in_range(self.histogram.value_at_quantile(quantile))
    }

    /// Iterates over the times in ascending order, each with the number of times that it was counted.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let steps = self.histogram.iter_recorded();
        steps.map(|step| (self.in_range(step.value_iterated_to()), step.count_since_last_iteration()))
    }

    fn in_range(&self, ns: u64) -> u64 {
        self.range.map_or(ns, |(min, max)| ns.clamp(min, max))
    }
}

/// Converts the error of a histogram: not enough memory, or invalid parameters.
fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Io("cannot count times in a histogram".to_owned(), std::io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[u64]) -> Sampled {
        let mut sampled = Sampled::new().expect("there must be a histogram");
        times.iter().for_each(|ns| sampled.record(*ns).expect("cannot record"));
        sampled
    }

    #[test]
    fn single_time_is_its_own_minimum_maximum_and_quantiles() {
        let one = of(&[92_700]);
        assert_eq!(one.range(), Some((92_700, 92_700)));
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|quantile| one.quantile(quantile)), [92_700; 4]);
        assert_eq!(one.iter().collect::<Vec<_>>(), [(92_700, 1)]);
    }

    #[test]
    fn sum_has_the_range_of_both() {
        let mut sum = of(&[92_700]);
        sum.add(&of(&[])).expect("cannot add");
        sum.add(&of(&[12_345_678, 5])).expect("cannot add");
        assert_eq!((sum.range(), sum.len()), (Some((5, 12_345_678)), 3));
        assert_eq!(of(&[]).range(), None);
    }
}
