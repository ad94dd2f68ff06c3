//! `breach=`: protection violations by ring 0 on demand, to test that the CPU prevents them.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};

/// A protection violation, and what prevents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Writes to the kernel's text: its page is read-only, and CR0.WP enforces that in ring 0.
    WriteText,
    /// Writes to it through the physical map.
    WriteAlias,
    /// Reads ring 3's memory outside of the user copy: SMAP.
    ReadUser,
    /// Executes ring 3's memory: SMEP.
    RunUser,
}

impl Violation {
    /// Each violation with its name.
    pub const ALL: [(&'static str, Violation); 4] = [
        ("write-text", Violation::WriteText),
        ("write-alias", Violation::WriteAlias),
        ("read-user", Violation::ReadUser),
        ("run-user", Violation::RunUser),
    ];

    /// Returns the violation with this name.
    pub(super) fn named(value: Token<'_>) -> Result<Violation, CmdlineError<'_>> {
        let found = Violation::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, violation)| violation).ok_or(CmdlineError::BadValue(Key::Breach, value))
    }
}
