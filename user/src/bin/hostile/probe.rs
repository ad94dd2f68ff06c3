//! A probe: the state that is entered, and what has to come of it, written down before it is tried.

use core::fmt;

use crate::class::Class;
use crate::options::Last;
use crate::state::{State, back};

/// Flags that come back as they were set.
pub const KEPT_FLAGS: u64 = 0x0024_4cd5;
/// Interrupts on, and the bit that is always set: whatever a program asks for.
pub const FIXED_FLAGS: u64 = 0x202;
/// Resume: whether `syscall` saves it depends on the CPU.
const RF: u64 = 0x1_0000;

/// Code that a probe enters. It ends with a jump to [`back`], or does not come back.
pub type Code = unsafe extern "sysv64" fn();
/// Gives a table's row its code.
pub type MakeCode = fn() -> Code;

/// A probe.
#[derive(Clone, Copy)]
pub struct Probe {
    /// What it is about.
    pub class: Class,
    /// What it does.
    pub name: &'static str,
    /// Which of its kind it is: a number, a selector, an address.
    pub detail: u64,
    /// How it begins.
    pub state: State,
    /// How it has to end.
    pub expect: Expect,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { rflags, rsp, .. } = self.state;
        write!(f, "{}: {} {:#x} (rflags {rflags:#x} rsp {rsp:#x})", self.class.name(), self.name, self.detail)
    }
}

/// How a probe has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It comes back, and all registers but these are as they were.
    Back(Back),
    /// The copy is killed.
    Dies(Death),
    /// The copy is killed, as the manuals say, or goes on to its end with exit code 0, as an emulator has it.
    DiesOrNot(Death),
    /// The copy ends by `SYS_EXIT` with this code.
    Exits(i64),
    /// It is random: nobody knows, but for what may never be.
    Anyhow,
}

/// What a register has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// As it was.
    Kept,
    /// This.
    Is(u64),
    /// Not below this.
    AtLeast(u64),
    /// Whatever.
    Any,
}

/// The registers that a probe may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the registers are their own names")]
pub struct Back {
    pub rax: Value,
    pub rbx: Value,
    pub rcx: Value,
    pub rdx: Value,
    pub r11: Value,
    /// The flags.
    pub rflags: u64,
}

impl Back {
    /// Behind code that changes nothing.
    pub const fn unchanged(rflags: u64) -> Back {
        use Value::Kept;
        let rflags = rflags & KEPT_FLAGS | FIXED_FLAGS;
        Back { rax: Kept, rbx: Kept, rcx: Kept, rdx: Kept, r11: Kept, rflags }
    }

    /// Behind a system call at `code` that was made with these flags.
    pub fn call(code: Code, rflags: u64, rax: Value) -> Back {
        let kept = Back::unchanged(rflags);
        // `syscall` has two bytes.
        let resume = code as *const () as u64 + 2;
        Back { rax, rcx: Value::Is(resume), r11: Value::Is(kept.rflags), ..kept }
    }
}

/// How a copy is killed (SDM 3A, chapter 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// The exception.
    pub vector: u64,
    /// Its error code.
    pub error: u64,
    /// Another exception and error code, if CPUs differ.
    pub or: (u64, u64),
    /// Where.
    pub rip: u64,
    /// Another place, if CPUs differ.
    pub or_rip: u64,
    /// The address that a page fault is about.
    pub cr2: u64,
}

impl Death {
    /// By this exception at this address.
    pub const fn new(vector: u64, error: u64, rip: u64) -> Death {
        Death { vector, error, or: (vector, error), rip, or_rip: rip, cr2: 0 }
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

/// How a copy that executes random bytes may be killed: by what instructions raise, and not by what only a kernel can be
/// guilty of, such as #DF or #TS.
const BY_CHANCE: [u64; 10] =
    [DIVIDE, DEBUG, BREAKPOINT, OVERFLOW, UNDEFINED, STACK, PROTECTION, PAGE, X87, 19];

impl Expect {
    /// Is this how the copy had to end?
    pub fn allows(&self, last: &Last) -> bool {
        match (*self, *last) {
            (Expect::Dies(death) | Expect::DiesOrNot(death), Last::Killed { vector, error, rip, cr2 }) => {
                [(death.vector, death.error), death.or].contains(&(vector, error))
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
                let Death { vector, error, or, rip, or_rip, cr2 } = death;
                write!(f, "vector {vector:#x} error {error:#x}")?;
                if (*vector, *error) != *or {
                    write!(f, " (or vector {:#x} error {:#x})", or.0, or.1)?;
                }
                write!(f, " rip {rip:#x}")?;
                if rip != or_rip {
                    write!(f, " (or {or_rip:#x})")?;
                }
                write!(f, " cr2 {cr2:#x}")
            }
            Expect::Exits(code) => write!(f, "exit code {code}"),
            Expect::Anyhow => f.write_str("an exception of its own, exit code 0, or the time limit"),
        }
    }
}

/// A register that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The register's name.
    pub register: &'static str,
    /// What it should hold.
    pub expected: u64,
    /// What it holds.
    pub got: u64,
}

impl Back {
    /// The first register that is not as it has to be.
    pub fn difference(&self, before: &State, after: &State) -> Option<Difference> {
        let values = |name| match name {
            "rax" => self.rax,
            "rbx" => self.rbx,
            "rcx" => self.rcx,
            "rdx" => self.rdx,
            "r11" => self.r11,
            _ => Value::Kept,
        };
        let integers =
            before.integers().into_iter().zip(after.integers()).map(|((register, before), (_, got))| {
                let value = values(register);
                let got = if register == "r11" && value != Value::Kept { got & !RF } else { got };
                let expected = match value {
                    Value::Kept => before,
                    Value::Is(value) => value,
                    Value::AtLeast(value) => value.max(got),
                    Value::Any => got,
                };
                Difference { register, expected, got }
            });
        let flags = Difference { register: "rflags", expected: self.rflags, got: after.rflags };
        integers.chain([flags]).chain(fpu(before, after)).find(|it| it.expected != it.got)
    }
}

/// x87 and SSE, word for word.
fn fpu<'a>(before: &'a State, after: &'a State) -> impl Iterator<Item = Difference> + 'a {
    let (before, after) = (&before.fpu, &after.fpu);
    let pair = |register, expected, got| Difference { register, expected, got };
    let control = [
        pair("x87 control word", before.x87_control.into(), after.x87_control.into()),
        pair("x87 status word", before.x87_status.into(), after.x87_status.into()),
        pair("x87 tags", before.x87_tags.into(), after.x87_tags.into()),
        pair("MXCSR", before.mxcsr.into(), after.mxcsr.into()),
    ];
    let words = |state: &'a [[u64; 2]]| state.as_flattened().iter().copied();
    let xmm = words(&before.xmm)
        .zip(words(&after.xmm))
        .map(move |(before, after)| pair("an xmm register", before, after));
    // An x87 register has ten bytes.
    let st = words(&before.st).zip(words(&after.st)).enumerate().map(move |(place, (before, after))| {
        let mask = if place % 2 == 0 { u64::MAX } else { 0xffff };
        pair("an x87 register", before & mask, after & mask)
    });
    control.into_iter().chain(xmm).chain(st)
}

/// Where code begins.
pub fn address(code: Code) -> u64 {
    code as *const () as u64
}

/// Where code comes back to.
pub fn back_address() -> u64 {
    address(back)
}

/// Defines code: instructions, and the jump back behind them.
#[macro_export]
macro_rules! code {
    ($($instruction:literal),+) => {{
        /// Given: any state. Leaves: what its instructions leave, by `back`.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn code() {
            core::arch::naked_asm!($($instruction,)+ "jmp {back}", back = sym $crate::state::back)
        }
        code as $crate::probe::Code
    }};
}
