//! Computes how much time a CPU spent in ring 3, in ring 0 and idle.
//!
//! Not every transition between the rings has an event. The following events change the state:
//!
//! | event | state before the event | state after the event |
//! |---|---|---|
//! | `program_start`, `syscall_exit` | | ring 3 |
//! | `syscall_enter`, `fault` | ring 3, unless another state is known | ring 0 |
//! | `program_end`, `ap_state` | | ring 0 |
//! | `idle_in` | | idle |
//! | `idle_out` | idle, unless another state is known | ring 0 |
//! | `dropped` | not known | not known |
//!
//! The time spent in a tick handler therefore counts towards the interrupted state.

use kernel_abi::trace::Kind;

/// The state of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unknown,
    Ring3,
    Ring0,
    Idle,
}

/// The time that a CPU has spent in each state so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    state: State,
    since: Option<u64>,
    spent: [u64; 4],
}

impl Times {
    /// Processes the CPU's next event.
    pub fn take(&mut self, ns: u64, kind: Kind) {
        let (before, after) = match kind {
            Kind::ProgramStart | Kind::SyscallExit => (None, Some(State::Ring3)),
            Kind::SyscallEnter | Kind::Fault => (Some(State::Ring3), Some(State::Ring0)),
            Kind::ProgramEnd | Kind::ApState => (None, Some(State::Ring0)),
            Kind::IdleIn => (None, Some(State::Idle)),
            Kind::IdleOut => (Some(State::Idle), Some(State::Ring0)),
            Kind::Dropped => {
                self.state = State::Unknown;
                (None, Some(State::Unknown))
            }
            _ => (None, None),
        };
        if let (State::Unknown, Some(before)) = (self.state, before) {
            self.state = before;
        }
        // Count no time before the first event.
        self.spent[self.state as usize] += ns - self.since.unwrap_or(ns);
        self.since = Some(ns);
        self.state = after.unwrap_or(self.state);
    }

    /// Returns the nanoseconds spent in ring 3.
    pub fn ring3(&self) -> u64 {
        self.spent[State::Ring3 as usize]
    }

    /// Returns the nanoseconds spent in ring 0, excluding idle time.
    pub fn ring0(&self) -> u64 {
        self.spent[State::Ring0 as usize]
    }

    /// Returns the nanoseconds spent idle.
    pub fn idle(&self) -> u64 {
        self.spent[State::Idle as usize]
    }

    /// Returns the nanoseconds from the first to the last event.
    pub fn all(&self) -> u64 {
        self.spent.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(events: &[(u64, Kind)]) -> [u64; 4] {
        let mut times = Times::default();
        events.iter().for_each(|(ns, kind)| times.take(*ns, *kind));
        [times.ring3(), times.ring0(), times.idle(), times.all()]
    }

    #[test]
    fn time_is_split_between_rings_and_idle() {
        use Kind::*;
        let events = [
            (100, ApState),
            (110, ProgramStart),
            (150, SyscallEnter),
            (157, SyscallExit),
            (160, Tick),
            (200, SyscallEnter),
            (203, ProgramEnd),
            (204, IdleIn),
            (300, Tick),
            (404, IdleOut),
            (405, IdleIn),
        ];
        assert_eq!(times(&events), [40 + 43, 10 + 7 + 3 + 1 + 1, 200, 305]);
    }

    #[test]
    fn time_before_a_gap_counts_as_unknown() {
        use Kind::*;
        let events = [(0, ProgramStart), (10, SyscallEnter), (90, Dropped), (95, Tick), (96, SyscallExit)];
        assert_eq!(times(&events), [10, 0, 0, 96]);
        // A trace that begins in the middle of a run.
        assert_eq!(times(&[(0, Tick), (10, SyscallEnter)]), [10, 0, 0, 10]);
        assert_eq!(times(&[(0, Tick), (10, IdleOut), (11, Tick)]), [0, 1, 10, 11]);
    }
}
