//! The last stage of a CPU that was started but did not come online.
#![forbid(unsafe_code)]

use core::fmt;

use ap_trampoline::Reached;

use crate::features::MissingFeatures;
use crate::online::Closed;

/// The last stage that a lost CPU is known to have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The CPU has reported nothing: it did not start, or it did not leave real mode.
    RealMode,
    /// The CPU has reached 32-bit protected mode.
    ProtectedMode,
    /// The CPU was about to enable paging, and did not claim its slot in 64-bit mode.
    LongMode,
    /// The CPU claimed its slot, but did not complete its setup in the kernel.
    Claimed,
    /// The CPU completed its setup, but did not arrive in time.
    SetUp,
}

impl Stage {
    /// Returns the stage of a CPU whose slot has been closed. `reached` is its row of the report. `set_up` says whether
    /// it has completed its setup.
    #[must_use]
    pub fn of(closed: Closed, reached: Reached, set_up: bool) -> Stage {
        match (closed, reached) {
            (Closed::Absent, Reached::Nothing) => Stage::RealMode,
            (Closed::Absent, Reached::ProtectedMode) => Stage::ProtectedMode,
            (Closed::Absent, Reached::Paging) => Stage::LongMode,
            _ if set_up => Stage::SetUp,
            _ => Stage::Claimed,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::RealMode => "it did not start, or was lost in real mode",
            Stage::ProtectedMode => "it was lost in protected mode",
            Stage::LongMode => "it was lost in long mode, before it claimed its slot",
            Stage::Claimed => "it was lost after it had claimed its slot, during its setup",
            Stage::SetUp => "it was lost after its setup, or was too late",
        })
    }
}

/// The reason why a CPU did not come online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It lacks features.
    Lacks(MissingFeatures),
    /// It did not arrive in time.
    Lost(Stage),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Lacks(missing) => write!(f, "lacks {missing}"),
            Cause::Lost(stage) => write!(f, "did not come online in time: {stage}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_is_the_last_one_that_is_proven() {
        // The state of the slot proves more than the report, whose row may be another CPU's.
        let table = [
            (Closed::Absent, Reached::Nothing, false, Stage::RealMode),
            (Closed::Absent, Reached::ProtectedMode, false, Stage::ProtectedMode),
            (Closed::Absent, Reached::Paging, false, Stage::LongMode),
            (Closed::Late, Reached::Nothing, false, Stage::Claimed),
            (Closed::Late, Reached::Paging, false, Stage::Claimed),
            (Closed::Late, Reached::Paging, true, Stage::SetUp),
        ];
        for (closed, reached, set_up, stage) in table {
            assert_eq!(Stage::of(closed, reached, set_up), stage, "{closed:?}, {reached:?}, {set_up}");
        }
    }
}
