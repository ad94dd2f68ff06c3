//! Decides whether a CPU starts its program again after a copy of the program has ended.
//!
//! ```text
//!             begin()            end()                 again() is true
//!   loaded  ----------> ring 3 ----------> taken down ------------------> loaded: round + 1
//!                                               |
//!                                               +---- no: the CPU's outcome is this copy's
//! ```
//!
//! Each round starts a new copy with new memory and cleared registers. The environment of the copy reports how the
//! previous copy ended (see [`environment`]).
#![forbid(unsafe_code)]

use core::cell::Cell;
use core::fmt;

use kernel_abi::record::Outcome;

use crate::exception::Fault;
use crate::plural::Count;
use crate::text::Text;

/// The reason why a copy was killed or not started.
pub type Reason = Text<200>;

/// How a copy ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The copy called `SYS_EXIT` with this code.
    Exited(i32),
    /// The copy was killed because of an exception.
    Faulted(Fault),
    /// The copy exceeded its time limit, given in ticks.
    TimeLimit(u32),
    /// The copy could not be loaded.
    NotStarted(Reason),
    /// The copy was ended because its CPU leaves the run. It is started again when the CPU has come back.
    Offline,
}

impl End {
    /// Returns the name of the ending in a record.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            End::Exited(_) => Outcome::Exited,
            End::Faulted(_) | End::TimeLimit(_) | End::NotStarted(_) | End::Offline => Outcome::Killed,
        }
    }

    /// Returns the code passed to `SYS_EXIT`; 0 if the copy did not exit.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self {
            End::Exited(code) => *code,
            _ => 0,
        }
    }

    /// Returns the reason why the copy was killed or not started; empty if it exited.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            End::Exited(_) => Reason::new(),
            End::Faulted(fault) => Reason::of(format_args!("{fault}")),
            End::TimeLimit(ticks) => {
                Reason::of(format_args!("time limit of {}", Count((*ticks).into(), "tick")))
            }
            End::NotStarted(reason) => *reason,
            End::Offline => Reason::of(format_args!("its CPU has left the run")),
        }
    }
}

/// The number of times a CPU starts its program, and the endings that stop the repetition early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// `repeat=N`: the number of consecutive starts on each CPU.
    pub rounds: u32,
    /// `deaths=go-on`: a killed copy does not end the repetition.
    pub continue_after_kill: bool,
    /// `limit_ticks=N`: a copy that still runs N ticks after its start is killed; 0, the default, means never.
    pub limit_ticks: u32,
}

impl Repeat {
    /// Returns whether there is another round after a round that ended with `end`. `starts` is the number of copies
    /// started so far.
    ///
    /// A copy that exits with a code other than 0 is always the last, because the program has failed.
    #[must_use]
    pub fn again(&self, end: &End, starts: u32) -> bool {
        let may_go_on = match end {
            End::Exited(code) => *code == 0,
            End::Faulted(_) | End::TimeLimit(_) => self.continue_after_kill,
            End::NotStarted(_) | End::Offline => false,
        };
        may_go_on && starts < self.rounds
    }
}

/// The tick at which a copy without a time limit must end. No CPU ever counts this many ticks.
const NEVER: u64 = u64::MAX;

/// The state of a CPU's rounds. Only that CPU uses it.
pub struct Rounds {
    starts: Cell<u32>,
    killed: Cell<u32>,
    /// How the latest copy ended; `None` until the first copy has ended.
    end: Cell<Option<End>>,
    /// The tick at which the copy must end; [`NEVER`] if it has no time limit.
    end_at: Cell<u64>,
    /// The copy's time limit in ticks; 0 if it must end because its CPU leaves.
    limit: Cell<u32>,
}

impl Rounds {
    /// Creates the state before the first round.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "the state before the first round is no neutral value")]
    pub const fn new() -> Rounds {
        Rounds {
            starts: Cell::new(0),
            killed: Cell::new(0),
            end: Cell::new(None),
            end_at: Cell::new(NEVER),
            limit: Cell::new(0),
        }
    }

    /// Starts a round. Called when a copy is about to enter ring 3; `ticks` is the current tick count.
    pub fn begin(&self, repeat: &Repeat, ticks: u64) {
        self.starts.set(self.starts.get() + 1);
        let limit = repeat.limit_ticks;
        // Allow one more tick: a tick that became due while the copy was being loaded, with interrupts off, is taken at
        // the copy's first instruction.
        self.end_at.set(if limit == 0 { NEVER } else { ticks.saturating_add(u64::from(limit) + 1) });
        self.limit.set(limit);
    }

    /// Makes the copy end at the next check of its time limit, because its CPU leaves.
    pub fn leave(&self) {
        self.end_at.set(0);
        self.limit.set(0);
    }

    /// Returns whether the copy must end: it has exceeded its time limit, or its CPU leaves.
    #[must_use]
    #[inline(always)]
    pub fn is_over_limit(&self, ticks: u64) -> bool {
        ticks >= self.end_at.get()
    }

    /// Returns the reason why a copy must end, if [`is_over_limit`](Self::is_over_limit) is true.
    #[must_use]
    pub fn at_limit(&self) -> End {
        match self.limit.get() {
            0 => End::Offline,
            limit => End::TimeLimit(limit),
        }
    }

    /// Takes over the counts of an earlier generation of this CPU.
    pub fn continue_from(&self, earlier: &Rounds) {
        self.starts.set(earlier.starts.get());
        self.killed.set(earlier.killed.get());
    }

    /// Ends a round.
    pub fn end(&self, end: End) {
        if matches!(end, End::Faulted(_) | End::TimeLimit(_)) {
            self.killed.set(self.killed.get() + 1);
        }
        self.end.set(Some(end));
    }

    /// Returns how the latest copy ended.
    #[must_use]
    pub fn latest(&self) -> Option<End> {
        self.end.get()
    }

    /// Returns the number of copies started.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.starts.get()
    }

    /// Returns the number of copies killed.
    #[must_use]
    pub fn killed(&self) -> u32 {
        self.killed.get()
    }
}

/// The strings of a copy's environment.
pub type Environment = [Text<96>; 3];

/// Returns the environment of the next copy: `round=R`, counted from 0, `rounds=N`, and how the previous copy on this
/// CPU ended: `last=none`, `last=exited:CODE`, `last=killed:VECTOR:ERROR:RIP:CR2` (hexadecimal, with `0x`; CR2 is 0
/// except for a page fault) or `last=limit`.
#[must_use]
pub fn environment(rounds: &Rounds, repeat: &Repeat) -> Environment {
    [
        Text::of(format_args!("round={}", rounds.starts())),
        Text::of(format_args!("rounds={}", repeat.rounds)),
        Text::of(format_args!("last={}", Last(rounds.latest()))),
    ]
}

/// The value of `last=`.
struct Last(Option<End>);

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(End::Exited(code)) => write!(f, "exited:{code}"),
            Some(End::Faulted(Fault { vector, error_code, rip, cr2, .. })) => {
                write!(f, "killed:{vector:#x}:{error_code:#x}:{rip:#x}:{:#x}", cr2.unwrap_or(0))
            }
            Some(End::TimeLimit(_)) => f.write_str("limit"),
            Some(End::NotStarted(_)) => f.write_str("not-started"),
            Some(End::Offline) => f.write_str("offline"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::exception::PAGE_FAULT;

    const FAULT: Fault =
        Fault { vector: PAGE_FAULT, error_code: 4, cr2: Some(u64::MAX), rip: u64::MAX, rsp: u64::MAX };

    #[test]
    fn killed_copies_end_the_repetition_unless_it_continues_after_a_kill() {
        let all = [
            End::Exited(0),
            End::Exited(7),
            End::Faulted(FAULT),
            End::TimeLimit(3),
            End::NotStarted(Reason::new()),
        ];
        let again = |repeat: Repeat, starts| all.map(|end| repeat.again(&end, starts));
        let strict = Repeat { rounds: 3, continue_after_kill: false, limit_ticks: 0 };
        let lenient = Repeat { continue_after_kill: true, ..strict };
        assert_eq!(again(strict, 2), [true, false, false, false, false]);
        assert_eq!(again(lenient, 2), [true, false, true, true, false]);
        assert_eq!(again(strict, 3), [false; 5]);
        assert_eq!(again(lenient, 3), [false; 5]);
    }

    #[test]
    fn environment_reports_the_previous_copy() {
        let rounds = Rounds::new();
        let repeat = Repeat { rounds: 9, continue_after_kill: true, limit_ticks: 2 };
        let reported = || environment(&rounds, &repeat).map(|text| text.as_str().to_string());
        assert_eq!(reported(), ["round=0", "rounds=9", "last=none"]);
        let ends = [
            (End::Exited(-1), "last=exited:-1"),
            (End::Faulted(FAULT), "last=killed:0xe:0x4:0xffffffffffffffff:0xffffffffffffffff"),
            (
                End::Faulted(Fault { vector: 6, error_code: 0, cr2: None, ..FAULT }),
                "last=killed:0x6:0x0:0xffffffffffffffff:0x0",
            ),
            (End::TimeLimit(2), "last=limit"),
        ];
        for (n, (end, last)) in ends.into_iter().enumerate() {
            rounds.begin(&repeat, 0);
            rounds.end(end);
            assert_eq!(reported(), [std::format!("round={}", n + 1), "rounds=9".into(), last.into()]);
        }
        assert_eq!((rounds.starts(), rounds.killed()), (4, 3));
    }

    #[test]
    fn the_limit_counts_from_the_start_of_each_copy() {
        let rounds = Rounds::new();
        let repeat = Repeat { rounds: 2, continue_after_kill: true, limit_ticks: 3 };
        rounds.begin(&repeat, 10);
        let over = |tick| match (rounds.is_over_limit(tick), rounds.at_limit()) {
            (false, _) => None,
            (true, End::TimeLimit(limit)) => Some(limit),
            (true, end) => panic!("{end:?}"),
        };
        assert_eq!([0, 13, 14, 15].map(over), [None, None, Some(3), Some(3)]);
        rounds.begin(&repeat, 13);
        assert_eq!([13, 16, 17].map(over), [None, None, Some(3)]);
        rounds.begin(&Repeat { limit_ticks: 0, ..repeat }, 16);
        assert_eq!(over(u64::MAX - 1), None);
    }

    #[test]
    fn a_copy_whose_cpu_leaves_ends_at_once_and_its_counts_go_on() {
        let (rounds, next) = (Rounds::new(), Rounds::new());
        let repeat = Repeat { rounds: 1, continue_after_kill: false, limit_ticks: 3 };
        rounds.begin(&repeat, 10);
        rounds.leave();
        assert!(rounds.is_over_limit(10) && matches!(rounds.at_limit(), End::Offline));
        rounds.end(End::Offline);
        assert!(!repeat.again(&End::Offline, 0), "the copy is started again by the CPU's next generation");
        next.continue_from(&rounds);
        assert_eq!((next.starts(), next.killed()), (1, 0));
        assert!(!next.is_over_limit(u64::MAX - 1) && next.latest().is_none());
    }
}
