//! `breach=`: what ring 0 does on demand, for a test to see that the CPU stops it.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};

/// What ring 0 must not do, and the CPU prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Writes to the kernel's text: its page is read-only, and CR0.WP makes that hold.
    WriteText,
    /// Writes to it through the physical map.
    WriteAlias,
    /// Reads ring 3's memory outside of the copy: SMAP.
    ReadUser,
    /// Executes ring 3's memory: SMEP.
    RunUser,
}

impl Breach {
    /// Each with its word.
    pub const ALL: [(&'static str, Breach); 4] = [
        ("write-text", Breach::WriteText),
        ("write-alias", Breach::WriteAlias),
        ("read-user", Breach::ReadUser),
        ("run-user", Breach::RunUser),
    ];

    /// What the word stands for.
    pub(super) fn named(value: Token<'_>) -> Result<Breach, CmdlineError<'_>> {
        let found = Breach::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, breach)| breach).ok_or(CmdlineError::BadValue(Key::Breach, value))
    }
}
