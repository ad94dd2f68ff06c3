//! The option `breach=`: a protection violation by ring 0 on request, to test that the CPU prevents it.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};
use crate::features::Features;

/// A kind of protection violation. Each variant names the mechanism that prevents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Writes to the kernel's text. Prevented by its read-only page, which CR0.WP enforces in ring 0.
    WriteText,
    /// Writes to the kernel's text through the physical map. Prevented by the read-only page there.
    WriteAlias,
    /// Reads user memory without the user-copy function. Prevented by SMAP.
    ReadUser,
    /// Executes user memory. Prevented by SMEP.
    RunUser,
}

impl Violation {
    /// All violations, each with its name on the command line.
    pub const ALL: [(&'static str, Violation); 4] = [
        ("write-text", Violation::WriteText),
        ("write-alias", Violation::WriteAlias),
        ("read-user", Violation::ReadUser),
        ("run-user", Violation::RunUser),
    ];

    /// Returns the name of the violation.
    #[must_use]
    pub fn name(self) -> &'static str {
        Violation::ALL[self as usize].0
    }

    /// Returns the optional CPU features that prevent the violation. Page tables and CR0.WP are not optional.
    #[must_use]
    pub fn guard(self) -> Features {
        Features { smap: self == Violation::ReadUser, smep: self == Violation::RunUser, ..Features::NONE }
    }

    /// Returns the violation with this name.
    pub(super) fn named(value: Token<'_>) -> Result<Violation, CmdlineError<'_>> {
        let found = Violation::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, violation)| violation).ok_or(CmdlineError::BadValue(Key::Breach, value))
    }
}
