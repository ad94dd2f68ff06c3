//! The phases of a path, and where each begins in the assembly.

use std::fmt;

/// A phase of a path into the kernel and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From ring 3 to the kernel's stack and GS base.
    Entry,
    /// Saves the registers of ring 3.
    Save,
    /// Finds the handler and calls it.
    Dispatch,
    /// The handler, which is compiled Rust.
    Handler,
    /// Restores the registers of ring 3.
    Restore,
    /// Returns to ring 3.
    Exit,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Entry => "entry",
            Phase::Save => "save",
            Phase::Dispatch => "dispatch",
            Phase::Handler => "handler",
            Phase::Restore => "restore",
            Phase::Exit => "exit",
        })
    }
}

/// The start of a phase: the function in assembly and the start of the instruction's source text.
pub type Start = (&'static str, &'static str, Phase);

/// The phases of a system call, in order of execution. All compiled functions are [`Phase::Handler`].
pub const SYSCALL: [Start; 5] = [
    ("syscall_entry", "swapgs", Phase::Entry),
    ("syscall_entry", "push rcx", Phase::Save),
    ("syscall_entry", "mov ecx", Phase::Dispatch),
    ("syscall_entry", "pop r9", Phase::Restore),
    ("syscall_entry", "test r11d", Phase::Exit),
];

/// The phases of a tick from ring 3.
pub const TICK: [Start; 5] = [
    ("tick_entry", "cld", Phase::Entry),
    ("tick_entry", "push rax", Phase::Save),
    ("tick_entry", "lea rdi", Phase::Dispatch),
    ("tick_entry", "pop r11", Phase::Restore),
    ("tick_entry", "jmp {iret_to_user}", Phase::Exit),
];

/// Determines the phase of each instruction of a path.
pub struct Phases {
    starts: &'static [Start],
    current: Phase,
}

impl Phases {
    /// Begins before the first instruction.
    pub fn new(starts: &'static [Start]) -> Phases {
        Phases { starts, current: Phase::Entry }
    }

    /// Returns the phase of the next instruction. `text` is its source text, if it is in assembly.
    pub fn next(&mut self, function: &str, text: Option<&str>) -> Phase {
        let Some(text) = text else { return Phase::Handler };
        if let Some((&(in_function, start, phase), rest)) = self.starts.split_first()
            && in_function == function
            && text.starts_with(start)
        {
            (self.current, self.starts) = (phase, rest);
        }
        self.current
    }

    /// Returns the start of a phase that the path has not reached.
    pub fn missing(&self) -> Option<&Start> {
        self.starts.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_changes_at_its_first_instruction() {
        let mut phases = Phases::new(&SYSCALL);
        let lines = [
            ("syscall_entry", Some("swapgs"), Phase::Entry),
            ("syscall_entry", Some("push rcx"), Phase::Save),
            ("syscall_entry", Some("push r11"), Phase::Save),
            ("syscall_entry", Some("mov ecx, {table_len}"), Phase::Dispatch),
            ("plain", None, Phase::Handler),
            ("syscall_entry", Some("pop r9"), Phase::Restore),
        ];
        for (function, text, phase) in lines {
            assert_eq!(phases.next(function, text), phase, "{text:?}");
        }
        assert_eq!(phases.missing(), Some(&("syscall_entry", "test r11d", Phase::Exit)));
    }
}
