//! `breach=`: protection violations by ring 0 on demand, to test that the CPU prevents them.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};

/// A protection violation, and what prevents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Writes to the kernel's text: its page is read-only, and CR0.WP enforces that in ring 0.
    WriteText,
    /// Writes to it through the physical map.
    WriteAlias,
    /// Reads ring 3's memory outside of the user copy: SMAP.
    ReadUser,
    /// Executes ring 3's memory: SMEP.
    RunUser,
}

impl Breach {
    /// Each violation with its name.
    pub const ALL: [(&'static str, Breach); 4] = [
        ("write-text", Breach::WriteText),
        ("write-alias", Breach::WriteAlias),
        ("read-user", Breach::ReadUser),
        ("run-user", Breach::RunUser),
    ];

    /// Returns the violation with this name.
    pub(super) fn named(value: Token<'_>) -> Result<Breach, CmdlineError<'_>> {
        let found = Breach::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, breach)| breach).ok_or(CmdlineError::BadValue(Key::Breach, value))
    }
}
