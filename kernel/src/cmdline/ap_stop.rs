//! The values of `die_in=`: the stages of the bring-up at which a CPU can be stopped.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};

/// The stage of the bring-up at which a CPU halts permanently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApStop {
    /// In the trampoline, in real mode.
    RealMode,
    /// In the trampoline, in 32-bit protected mode.
    ProtectedMode,
    /// In the trampoline, in 64-bit mode.
    LongMode,
    /// In the trampoline, after it has claimed its slot.
    Claimed,
    /// In the kernel, before it sets itself up.
    Kernel,
    /// In the kernel, after it has set itself up.
    SetUp,
}

impl ApStop {
    /// All stages, each with its name on the command line.
    pub const ALL: [(&'static str, ApStop); 6] = [
        ("real-mode", ApStop::RealMode),
        ("protected-mode", ApStop::ProtectedMode),
        ("long-mode", ApStop::LongMode),
        ("claimed", ApStop::Claimed),
        ("kernel", ApStop::Kernel),
        ("set-up", ApStop::SetUp),
    ];

    pub(super) fn named(value: Token<'_>) -> Result<ApStop, CmdlineError<'_>> {
        let found = ApStop::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, stop)| stop).ok_or(CmdlineError::BadValue(Key::DieIn, value))
    }
}
