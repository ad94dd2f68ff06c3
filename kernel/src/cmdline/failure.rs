//! The options `panic_cpu=`, `overflow_cpu=`, `double_fault_cpu=` and `fail_in=`: failures of a CPU on request, to test
//! that they are reported.
#![forbid(unsafe_code)]

use super::{CmdlineError, Key, RawValues, Token};

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The CPU panics.
    Panic,
    /// The CPU overflows its stack.
    Overflow,
    /// The CPU takes an exception with an invalid stack pointer, which causes a double fault.
    DoubleFault,
}

/// The place where a CPU fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the CPU starts its program.
    Start,
    /// During bring-up: the BSP after it has sent the start-up IPIs; an AP after it has loaded its tables, but before
    /// it has set the GS base and enabled the APIC.
    BringUp,
    /// Like `BringUp`, but when an AP comes back for the first time after it has left the run.
    ComeBack,
    /// In the system call `SYS_EXIT`.
    Syscall,
    /// In a timer tick after the program has started.
    Tick,
    /// In the NMI handler.
    Nmi,
    /// In the idle loop, after the program has ended.
    Idle,
    /// While the CPU holds the console lock.
    Console,
    /// While another CPU holds the console lock and never releases it.
    ConsoleHeld,
    /// While another CPU holds the console lock in its NMI handler, and a third CPU also panics before the first has
    /// stopped it.
    SecondPanic,
}

/// The role of a CPU under `fail_in=second-panic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondPanicRole {
    /// The CPU panics first and reports the panic.
    First,
    /// The CPU holds the console lock while the first CPU panics.
    Holder,
    /// The CPU panics after the first.
    Second,
}

impl Place {
    /// All places, each with its name on the command line.
    pub const ALL: [(&'static str, Place); 10] = [
        ("start", Place::Start),
        ("bring-up", Place::BringUp),
        ("come-back", Place::ComeBack),
        ("syscall", Place::Syscall),
        ("tick", Place::Tick),
        ("nmi", Place::Nmi),
        ("idle", Place::Idle),
        ("console", Place::Console),
        ("console-held", Place::ConsoleHeld),
        ("second-panic", Place::SecondPanic),
    ];

    /// Returns the number of CPUs that a failure at this place needs: the failing CPU and the CPUs with another role.
    #[must_use]
    pub fn cpus_needed(self) -> usize {
        match self {
            Place::ConsoleHeld => 2,
            Place::SecondPanic => 3,
            _ => 1,
        }
    }

    /// Returns the name of the place.
    #[must_use]
    pub fn name(self) -> &'static str {
        Place::ALL[self as usize].0
    }

    fn named(value: Token<'_>) -> Result<Place, CmdlineError<'_>> {
        let found = Place::ALL.into_iter().find(|(word, _)| value == **word);
        found.map(|(_, place)| place).ok_or(CmdlineError::BadValue(Key::FailIn, value))
    }
}

/// The CPUs that fail, the kinds of failure, and the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// `panic_cpu=K`: CPU K panics.
    pub panic_cpu: Option<u32>,
    /// `overflow_cpu=K`: CPU K overflows its stack.
    pub overflow_cpu: Option<u32>,
    /// `double_fault_cpu=K`: CPU K takes a double fault.
    pub double_fault_cpu: Option<u32>,
    /// `fail_in=PLACE`: the place where these CPUs fail. By default, before the program starts.
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
        // If no CPU is to fail, `fail_in=` has no effect, and a test that expects a failure would wrongly pass.
        match failures.requested().filter(|(_, cpu, _)| cpu.is_some()).count() {
            0 if raw[Key::FailIn as usize].is_some() => Err(CmdlineError::NoFailingCpu),
            _ if failures.place == Place::ComeBack && failures.of(0).is_some() => {
                Err(CmdlineError::OnlyAps(Place::ComeBack))
            }
            // Two failing CPUs might each hold the lock that the other waits for.
            2.. if failures.place.cpus_needed() > 1 => Err(CmdlineError::SeveralFailingCpus(failures.place)),
            _ => Ok(failures),
        }
    }

    /// Returns the keys, each with the CPU that it names and that CPU's kind of failure.
    pub fn requested(&self) -> impl Iterator<Item = (Key, Option<u32>, FailureKind)> + use<> {
        [
            (Key::PanicCpu, self.panic_cpu, FailureKind::Panic),
            (Key::OverflowCpu, self.overflow_cpu, FailureKind::Overflow),
            (Key::DoubleFaultCpu, self.double_fault_cpu, FailureKind::DoubleFault),
        ]
        .into_iter()
    }

    /// Returns this CPU's kind of failure, or `None` if it does not fail.
    #[must_use]
    pub fn of(&self, cpu: u32) -> Option<FailureKind> {
        self.requested().find(|(_, named, _)| *named == Some(cpu)).map(|(_, _, kind)| kind)
    }

    /// Returns whether this CPU must hold the console lock while another CPU fails. The holder is the CPU after the
    /// failing one; `cpus` is the number of CPUs.
    #[must_use]
    pub fn holds_console(&self, cpu: u32, cpus: u32) -> bool {
        self.place == Place::ConsoleHeld && self.distance(cpu, cpus) == Some(1)
    }

    /// Returns the role of this CPU if a second CPU must panic. `cpus` is the number of CPUs.
    #[must_use]
    pub fn second_panic_role(&self, cpu: u32, cpus: u32) -> Option<SecondPanicRole> {
        match self.distance(cpu, cpus).filter(|_| self.place == Place::SecondPanic)? {
            0 => Some(SecondPanicRole::First),
            1 => Some(SecondPanicRole::Holder),
            2 => Some(SecondPanicRole::Second),
            _ => None,
        }
    }

    /// Returns the distance from the failing CPU to this CPU, counted upwards and modulo the number of CPUs.
    fn distance(&self, cpu: u32, cpus: u32) -> Option<u32> {
        let failing = self.requested().find_map(|(_, named, _)| named)?;
        if cpu >= failing { Some(cpu - failing) } else { Some(cpu + cpus.checked_sub(failing)?) }
    }
}
