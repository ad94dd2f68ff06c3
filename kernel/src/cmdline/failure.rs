//! `panic_cpu=` and its kin: what a CPU does wrong on demand, and where, for a test to see that it ends in a report.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, RawValues, Token};

/// What a CPU does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It panics.
    Panic,
    /// It runs off its stack.
    Overflow,
    /// It loses its stack pointer and takes an exception: a double fault.
    DoubleFault,
}

/// Where it does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In front of its program's start.
    Start,
    /// While CPUs are brought up: the BSP once it has called the others, another one when it has stacks and tables, but
    /// no per-CPU data behind GS and no APIC.
    BringUp,
    /// In a system call, `SYS_EXIT`.
    Syscall,
    /// In a timer tick behind its program's start.
    Tick,
    /// In its NMI handler.
    Nmi,
    /// When it comes back from a halt, its program having ended.
    Idle,
    /// While it has the console's lock itself.
    Console,
    /// While another CPU has that lock and never gives it back.
    ConsoleHeld,
}

impl Place {
    /// Each with its word.
    pub const ALL: [(&'static str, Place); 8] = [
        ("start", Place::Start),
        ("bring-up", Place::BringUp),
        ("syscall", Place::Syscall),
        ("tick", Place::Tick),
        ("nmi", Place::Nmi),
        ("idle", Place::Idle),
        ("console", Place::Console),
        ("console-held", Place::ConsoleHeld),
    ];

    fn named(value: Token<'_>) -> Result<Place, CmdlineError<'_>> {
        let found = Place::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, place)| place).ok_or(CmdlineError::BadValue(Key::FailIn, value))
    }
}

/// Which CPUs fail, how, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// `panic_cpu=K`: CPU K panics.
    pub panic_cpu: Option<u32>,
    /// `overflow_cpu=K`: CPU K runs off its stack.
    pub overflow_cpu: Option<u32>,
    /// `double_fault_cpu=K`: CPU K takes a double fault.
    pub double_fault_cpu: Option<u32>,
    /// `fail_in=PLACE`: where they do so; in front of the program's start without it.
    pub place: Place,
}

impl Failures {
    pub(super) fn from<'a>(raw: &RawValues<'a>) -> Result<Failures, CmdlineError<'a>> {
        let failures = Failures {
            panic_cpu: Key::PanicCpu.number(raw)?,
            overflow_cpu: Key::OverflowCpu.number(raw)?,
            double_fault_cpu: Key::DoubleFaultCpu.number(raw)?,
            place: raw[Key::FailIn as usize].map_or(Ok(Place::Start), Place::named)?,
        };
        // A test that asks for a failure and gets none would pass.
        match failures.deeds().filter(|(_, cpu, _)| cpu.is_some()).count() {
            0 if raw[Key::FailIn as usize].is_some() => Err(CmdlineError::NobodyFails),
            // Each might hold the lock that the other waits for.
            2.. if failures.place == Place::ConsoleHeld => Err(CmdlineError::ManyFail),
            _ => Ok(failures),
        }
    }

    /// The keys, the CPU that each names, and what that one does.
    pub fn deeds(&self) -> impl Iterator<Item = (Key, Option<u32>, Deed)> + use<> {
        [
            (Key::PanicCpu, self.panic_cpu, Deed::Panic),
            (Key::OverflowCpu, self.overflow_cpu, Deed::Overflow),
            (Key::DoubleFaultCpu, self.double_fault_cpu, Deed::DoubleFault),
        ]
        .into_iter()
    }

    /// What this CPU does, if anything.
    #[must_use]
    pub fn of(&self, cpu: u32) -> Option<Deed> {
        self.deeds().find(|(_, named, _)| *named == Some(cpu)).map(|(_, _, deed)| deed)
    }

    /// Does this CPU, of so many, hold the console's lock for the one that fails beside it? That is the next one.
    #[must_use]
    pub fn holds_console(&self, cpu: u32, cpus: u32) -> bool {
        let next = |named: u32| named.checked_add(1).filter(|&next| next < cpus).unwrap_or(0) == cpu;
        self.place == Place::ConsoleHeld && self.deeds().any(|(_, named, _)| named.is_some_and(next))
    }
}
