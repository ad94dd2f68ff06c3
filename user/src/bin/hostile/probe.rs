//! A probe: one attempt to harm the kernel. It consists of code, the CPU state with which the code is entered, and the
//! predicted outcome.

use core::fmt;

use crate::back::Back;
use crate::class::Class;
use crate::options::Last;
use crate::state::{State, back};

/// The code of a probe. It ends with a jump to [`back`], or does not return.
pub type Code = unsafe extern "sysv64" fn();
/// Returns the code for a row of a table.
pub type MakeCode = fn() -> Code;

/// One attempt to harm the kernel, with its predicted outcome.
#[derive(Clone, Copy)]
pub struct Probe {
    /// The class of the probe.
    pub class: Class,
    /// The name of the probe.
    pub name: &'static str,
    /// A number, selector or address that distinguishes this probe from others with the same name.
    pub detail: u64,
    /// The state with which the code is entered.
    pub state: State,
    /// The expected outcome.
    pub expect: Expect,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { rflags, rsp, .. } = self.state;
        write!(f, "{}: {} {:#x} (rflags {rflags:#x} rsp {rsp:#x})", self.class.name(), self.name, self.detail)
    }
}

/// The expected outcome of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The code returns with these register values.
    Back(Back),
    /// The kernel kills this copy of the program.
    Dies(Death),
    /// The kernel kills this copy, as the manuals specify, or the copy exits with code 0, as on an emulator that permits
    /// the instruction.
    DiesOrNot(Death),
    /// This copy calls `SYS_EXIT` with this code.
    Exits(i64),
    /// Random code: any outcome except a kernel fault.
    Anyhow,
}

/// The exception for which the kernel kills a copy of the program (SDM 3A, chapter 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// The vector of the exception.
    pub vector: u64,
    /// The error code.
    pub error: u64,
    /// An alternative vector and error code, for CPUs that differ.
    pub or: (u64, u64),
    /// Bits of the error code that may have either value.
    pub either: u64,
    /// The rip that the exception reports.
    pub rip: u64,
    /// An alternative rip, for CPUs that differ.
    pub or_rip: u64,
    /// The address that caused the page fault.
    pub cr2: u64,
}

impl Death {
    /// Returns the death from this exception at this address.
    pub const fn new(vector: u64, error: u64, rip: u64) -> Death {
        Death { vector, error, or: (vector, error), either: 0, rip, or_rip: rip, cr2: 0 }
    }
}

/// #DE.
pub const DIVIDE: u64 = 0;
/// #DB.
pub const DEBUG: u64 = 1;
/// #BP.
pub const BREAKPOINT: u64 = 3;
/// #OF.
pub const OVERFLOW: u64 = 4;
/// #UD.
pub const UNDEFINED: u64 = 6;
/// #SS.
pub const STACK: u64 = 12;
/// #GP.
pub const PROTECTION: u64 = 13;
/// #PF.
pub const PAGE: u64 = 14;
/// #MF.
pub const X87: u64 = 16;

/// The exceptions that may kill a copy that executes random bytes. Exceptions such as #DF or #TS, which only a kernel
/// bug can cause, are not among them.
const BY_CHANCE: [u64; 10] =
    [DIVIDE, DEBUG, BREAKPOINT, OVERFLOW, UNDEFINED, STACK, PROTECTION, PAGE, X87, 19];

impl Expect {
    /// Returns whether this is an expected outcome.
    pub fn allows(&self, last: &Last) -> bool {
        match (*self, *last) {
            (Expect::Dies(death) | Expect::DiesOrNot(death), Last::Killed { vector, error, rip, cr2 }) => {
                [(death.vector, death.error), death.or]
                    .iter()
                    .any(|it| it.0 == vector && (it.1 ^ error) & !death.either == 0)
                    && [death.rip, death.or_rip].contains(&rip)
                    && cr2 == death.cr2
            }
            (Expect::Exits(expected), Last::Exited(code)) => expected == code,
            (Expect::DiesOrNot(_), Last::Exited(0)) => true,
            (Expect::Anyhow, Last::Killed { vector, .. }) => BY_CHANCE.contains(&vector),
            (Expect::Anyhow, Last::Exited(0) | Last::Limit) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Back(_) => f.write_str("back"),
            Expect::Dies(death) | Expect::DiesOrNot(death) => {
                let Death { vector, error, or, either, rip, or_rip, cr2 } = death;
                write!(f, "vector {vector:#x} error {error:#x}")?;
                if (*vector, *error) != *or {
                    write!(f, " (or vector {:#x} error {:#x})", or.0, or.1)?;
                }
                if *either != 0 {
                    write!(f, " (bits {either:#x} may differ)")?;
                }
                write!(f, " rip {rip:#x}")?;
                if rip != or_rip {
                    write!(f, " (or {or_rip:#x})")?;
                }
                write!(f, " cr2 {cr2:#x}")
            }
            Expect::Exits(code) => write!(f, "exit code {code}"),
            Expect::Anyhow => {
                f.write_str("an exception raised by an instruction, exit code 0, or the time limit")
            }
        }
    }
}

/// Returns the address of a probe's code.
pub fn address(code: Code) -> u64 {
    code as *const () as u64
}

/// Returns the address to which a probe's code jumps when it ends.
pub fn back_address() -> u64 {
    address(back)
}

/// Defines a probe's code: the given instructions, followed by the jump to `back`.
#[macro_export]
macro_rules! code {
    ($($instruction:literal),+) => {{
        /// Entry state: any. Exit state: that after the instructions, at `back`.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn code() {
            core::arch::naked_asm!($($instruction,)+ "jmp {back}", back = sym $crate::state::back)
        }
        code as $crate::probe::Code
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_predicted_death_is_allowed() {
        let death = Death { or: (STACK, 0), either: 1, or_rip: 9, cr2: 5, ..Death::new(PAGE, 6, 8) };
        let allows =
            |vector, error, rip, cr2| Expect::Dies(death).allows(&Last::Killed { vector, error, rip, cr2 });
        assert!(allows(PAGE, 6, 8, 5) && allows(PAGE, 7, 9, 5) && allows(STACK, 0, 8, 5));
        for (vector, error, rip, cr2) in
            [(PAGE, 4, 8, 5), (PAGE, 6, 7, 5), (PAGE, 6, 8, 4), (PROTECTION, 6, 8, 5), (STACK, 2, 8, 5)]
        {
            assert!(!allows(vector, error, rip, cr2), "{vector} {error} {rip} {cr2}");
        }
        assert!(!Expect::Dies(death).allows(&Last::Limit) && !Expect::Exits(0).allows(&Last::Exited(1)));
        assert!(Expect::Anyhow.allows(&Last::Limit) && !Expect::Anyhow.allows(&Last::Exited(1)));
        let double_fault = Last::Killed { vector: 8, error: 0, rip: 0, cr2: 0 };
        assert!(!Expect::Anyhow.allows(&double_fault));
        assert!(Expect::DiesOrNot(death).allows(&Last::Exited(0)));
    }
}
