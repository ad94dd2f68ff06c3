//! The option `verdict=`: what the machine does after the kernel's verdict.
#![forbid(unsafe_code)]

use super::token::Tokens;
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

    /// Returns the value on a command line whose other options may be invalid, so that the verdict on such a line is
    /// also delivered as requested.
    #[must_use]
    pub fn requested(line: &[u8]) -> Option<Finish> {
        let tokens = Tokens(core::str::from_utf8(line).ok()?);
        let mut options = tokens.map_while(Result::ok).take_while(|token| *token != *"--");
        options.find_map(|token| match Key::split(token) {
            Ok((Key::Verdict, value)) => Finish::named(value).ok(),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_found_on_an_invalid_line() {
        for (line, expected) in [
            ("", None),
            ("verdict=stay", Some(Finish::Stay)),
            ("x=1 tick_hz=0 verdict=poweroff verdict=exit", Some(Finish::PowerOff)),
            ("verdict=reboot \"", Some(Finish::Reboot)),
            ("verdict=no", None),
            ("-- verdict=exit", None),
        ] {
            assert_eq!(Finish::requested(line.as_bytes()), expected, "{line}");
        }
    }
}
