//! The option `verdict=`: what the machine does after the kernel's verdict.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};

/// What the machine does after the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The kernel writes the verdict to QEMU's `isa-debug-exit` device, which ends QEMU.
    Exit,
    /// The CPUs halt.
    Stay,
    /// The kernel resets the machine.
    Reboot,
    /// The kernel powers the machine off.
    PowerOff,
}

impl Finish {
    /// All values, each with its name on the command line.
    pub const ALL: [(&'static str, Finish); 4] = [
        ("exit", Finish::Exit),
        ("stay", Finish::Stay),
        ("reboot", Finish::Reboot),
        ("poweroff", Finish::PowerOff),
    ];

    /// Returns the value with this name.
    pub(super) fn named(value: Token<'_>) -> Result<Finish, CmdlineError<'_>> {
        let found = Finish::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, finish)| finish).ok_or(CmdlineError::BadValue(Key::Verdict, value))
    }
}
