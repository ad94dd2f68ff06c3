//! The option `uart_fault=`: UARTs that accept no data, to test that no CPU waits for them indefinitely.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, Token};

/// A fault of all UARTs, from the program's start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UartFault {
    /// The UARTs never become ready.
    Stuck,
    /// The UARTs become ready only after the last copy of the program has ended.
    StuckInRing3,
    /// No device responds at the UARTs' ports.
    Absent,
}

impl UartFault {
    /// All faults, each with its name on the command line.
    pub const ALL: [(&'static str, UartFault); 3] = [
        ("stuck", UartFault::Stuck),
        ("stuck-in-ring-3", UartFault::StuckInRing3),
        ("absent", UartFault::Absent),
    ];

    /// Returns the fault with this name.
    pub(super) fn named(value: Token<'_>) -> Result<UartFault, CmdlineError<'_>> {
        let found = UartFault::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, fault)| fault).ok_or(CmdlineError::BadValue(Key::UartFault, value))
    }
}
