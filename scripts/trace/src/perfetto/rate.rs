//! System calls per second, computed over fixed time intervals (bins).

/// Length of a bin in nanoseconds.
const BIN: u64 = 10_000_000;
/// Number of bins per second.
const PER_SECOND: u64 = 1_000_000_000 / BIN;

/// A time in nanoseconds, and the calls per second from that time on.
pub type Value = (u64, u64);

/// The system-call rate of one CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    bin: u64,
    calls: u64,
}

impl Rate {
    /// Counts a call. Returns the values of the bins that are now complete: the value of the last bin with calls, and a
    /// 0 if empty bins follow it.
    pub fn call(&mut self, ns: u64) -> [Option<Value>; 2] {
        let bin = ns / BIN;
        let mut values = [None; 2];
        if bin != self.bin {
            values = self.finish();
            if bin == self.bin + 1 {
                values[1] = None;
            }
            self.bin = bin;
        }
        self.calls += 1;
        values
    }

    /// Returns the remaining values after the last call.
    pub fn finish(&mut self) -> [Option<Value>; 2] {
        if self.calls == 0 {
            return [None; 2];
        }
        let rate = std::mem::take(&mut self.calls) * PER_SECOND;
        [Some((self.bin * BIN, rate)), Some(((self.bin + 1).saturating_mul(BIN), 0))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_with_calls_have_values_and_gaps_are_zero() {
        let mut rate = Rate::default();
        let mut values = Vec::new();
        for ms in [1, 2, 12, 45, 46, 47] {
            values.extend(rate.call(ms * 1_000_000).into_iter().flatten());
        }
        values.extend(rate.finish().into_iter().flatten());
        let ms = |(ns, rate): (u64, u64)| (ns / 1_000_000, rate);
        let values: Vec<_> = values.into_iter().map(ms).collect();
        assert_eq!(values, [(0, 200), (10, 100), (20, 0), (40, 300), (50, 0)]);
        assert_eq!(rate.finish(), [None; 2], "no remaining values");
    }
}
