//! Defaults of a run with many CPUs. On a host with few cores, the timer ticks of many virtual CPUs at 100 Hz would
//! take all of the host's time, and the firmware alone needs tens of seconds.

/// Machines with more CPUs than this use different defaults.
const MANY: u32 = 128;
/// The number of ticks per second of all CPUs together: that of [`MANY`] CPUs at 100 Hz.
const TICKS_PER_SECOND: u32 = MANY * 100;

/// Returns the default rate of the tick in hertz. `None` is the kernel's default, 100 Hz.
pub fn tick_hz(cpus: u32) -> Option<u32> {
    (cpus > MANY).then(|| (TICKS_PER_SECOND / cpus).max(1))
}

/// Returns the number of seconds by which the default time limit of a run exceeds that of a run with few CPUs.
pub fn more_seconds(cpus: u32) -> u64 {
    if cpus > MANY { u64::from(cpus / 4) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_change_only_for_many_cpus() {
        assert_eq!([0, 1, 4, 128].map(tick_hz), [None; 4]);
        assert_eq!([129, 256, 1024, u32::MAX].map(tick_hz), [Some(99), Some(50), Some(12), Some(1)]);
        assert_eq!([0, 128, 1024].map(more_seconds), [0, 0, 256]);
    }
}
