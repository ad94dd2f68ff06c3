//! This CPU's flight recorder for user events: the latest ones, oldest overwritten first.
#![forbid(unsafe_code)]

/// One `SYS_TRACE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its number, counted from 0: gaps at the front mean that older ones were overwritten.
    pub sequence: u64,
    /// Time-stamp counter when it was recorded.
    pub tsc: u64,
    /// Ring 3's first argument.
    pub id: u64,
    /// Ring 3's second argument.
    pub value: u64,
}

/// The latest [`Ring::CAPACITY`] events of one CPU. Only that CPU writes it.
#[derive(Debug)]
pub struct Ring {
    events: [Event; Ring::CAPACITY],
    recorded: u64,
}

impl Ring {
    /// How many events are kept.
    pub const CAPACITY: usize = 64;

    /// A ring without events.
    #[must_use]
    pub const fn new() -> Ring {
        Ring { events: [Event { sequence: 0, tsc: 0, id: 0, value: 0 }; Ring::CAPACITY], recorded: 0 }
    }

    /// Records an event.
    pub fn record(&mut self, tsc: u64, id: u64, value: u64) {
        let place = (self.recorded % Ring::CAPACITY as u64) as usize;
        self.events[place] = Event { sequence: self.recorded, tsc, id, value };
        self.recorded = self.recorded.wrapping_add(1);
    }

    /// How many were recorded in all.
    #[must_use]
    pub const fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The kept events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let kept = self.recorded.min(Ring::CAPACITY as u64);
        (self.recorded - kept..self.recorded)
            .map(|sequence| &self.events[(sequence % Ring::CAPACITY as u64) as usize])
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_latest_events_are_kept_in_order() {
        let mut ring = Ring::new();
        assert_eq!(ring.events().count(), 0);
        for n in 0..Ring::CAPACITY as u64 + 10 {
            ring.record(n * 100, n, n + 1);
        }
        let kept: Vec<_> = ring.events().copied().collect();
        assert_eq!(kept.len(), Ring::CAPACITY);
        assert_eq!(kept[0], Event { sequence: 10, tsc: 1000, id: 10, value: 11 });
        assert!(kept.windows(2).all(|pair| pair[0].sequence + 1 == pair[1].sequence));
        assert_eq!(ring.recorded(), Ring::CAPACITY as u64 + 10);
    }
}
