//! `panic_cpu=`, `overflow_cpu=`, `double_fault_cpu=` and `fail_in=`: failures of a CPU on demand, to test the reports.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, RawValues, Token};

/// How a CPU fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It panics.
    Panic,
    /// It overflows its stack.
    Overflow,
    /// It loses its stack pointer and takes an exception: a double fault.
    DoubleFault,
}

/// Where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before its program's start.
    Start,
    /// During bring-up: the BSP after it has sent the start-up IPIs, an AP when it has stacks and tables, but
    /// no per-CPU data in its GS base and no APIC.
    BringUp,
    /// In a system call, `SYS_EXIT`.
    Syscall,
    /// In a timer tick after its program's start.
    Tick,
    /// In its NMI handler.
    Nmi,
    /// After a halt, when its program has ended.
    Idle,
    /// While it holds the console's lock itself.
    Console,
    /// While another CPU holds that lock and never releases it.
    ConsoleHeld,
    /// While another CPU holds that lock in its NMI handler, and a third panics too, before the first has stopped it.
    SecondPanic,
}

/// What a CPU does under `fail_in=second-panic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondPanicRole {
    /// Panics, and reports it.
    First,
    /// Holds the console's lock meanwhile.
    Holder,
    /// Panics after the first.
    Second,
}

impl Place {
    /// Each place with its name.
    pub const ALL: [(&'static str, Place); 9] = [
        ("start", Place::Start),
        ("bring-up", Place::BringUp),
        ("syscall", Place::Syscall),
        ("tick", Place::Tick),
        ("nmi", Place::Nmi),
        ("idle", Place::Idle),
        ("console", Place::Console),
        ("console-held", Place::ConsoleHeld),
        ("second-panic", Place::SecondPanic),
    ];

    /// Returns how many CPUs it needs: the one that fails, and those that have another part in it.
    #[must_use]
    pub fn cpus_needed(self) -> usize {
        match self {
            Place::ConsoleHeld => 2,
            Place::SecondPanic => 3,
            _ => 1,
        }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Place::ALL[self as usize].0
    }

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
    /// `overflow_cpu=K`: CPU K overflows its stack.
    pub overflow_cpu: Option<u32>,
    /// `double_fault_cpu=K`: CPU K takes a double fault.
    pub double_fault_cpu: Option<u32>,
    /// `fail_in=PLACE`: where they fail; by default before the program's start.
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
        // Without a failing CPU, a test that requests a failure would pass.
        match failures.requested().filter(|(_, cpu, _)| cpu.is_some()).count() {
            0 if raw[Key::FailIn as usize].is_some() => Err(CmdlineError::NoFailingCpu),
            // Each might hold the lock that the other waits for.
            2.. if failures.place.cpus_needed() > 1 => Err(CmdlineError::SeveralFailingCpus(failures.place)),
            _ => Ok(failures),
        }
    }

    /// Returns the keys, the CPU that each names, and how that CPU fails.
    pub fn requested(&self) -> impl Iterator<Item = (Key, Option<u32>, FailureKind)> + use<> {
        [
            (Key::PanicCpu, self.panic_cpu, FailureKind::Panic),
            (Key::OverflowCpu, self.overflow_cpu, FailureKind::Overflow),
            (Key::DoubleFaultCpu, self.double_fault_cpu, FailureKind::DoubleFault),
        ]
        .into_iter()
    }

    /// Returns how this CPU fails, if it does.
    #[must_use]
    pub fn of(&self, cpu: u32) -> Option<FailureKind> {
        self.requested().find(|(_, named, _)| *named == Some(cpu)).map(|(_, _, kind)| kind)
    }

    /// Returns whether this CPU, of `cpus`, holds the console's lock while another one fails: the next CPU after it.
    #[must_use]
    pub fn holds_console(&self, cpu: u32, cpus: u32) -> bool {
        self.place == Place::ConsoleHeld && self.distance(cpu, cpus) == Some(1)
    }

    /// Returns what this CPU, of `cpus`, does if a second one panics.
    #[must_use]
    pub fn second_panic_role(&self, cpu: u32, cpus: u32) -> Option<SecondPanicRole> {
        match self.distance(cpu, cpus).filter(|_| self.place == Place::SecondPanic)? {
            0 => Some(SecondPanicRole::First),
            1 => Some(SecondPanicRole::Holder),
            2 => Some(SecondPanicRole::Second),
            _ => None,
        }
    }

    /// Returns how many CPUs this one, of `cpus`, comes after the one that fails, counted in a circle.
    fn distance(&self, cpu: u32, cpus: u32) -> Option<u32> {
        let failing = self.requested().find_map(|(_, named, _)| named)?;
        if cpu >= failing { Some(cpu - failing) } else { Some(cpu + cpus.checked_sub(failing)?) }
    }
}
