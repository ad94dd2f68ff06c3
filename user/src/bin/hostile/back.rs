//! The register values that are expected when a probe returns.

use crate::probe::Code;
use crate::state::State;

/// Flags that the kernel preserves.
pub const KEPT_FLAGS: u64 = 0x0024_4cd5;
/// IF and bit 1, which are set regardless of the value that a program loads.
pub const FIXED_FLAGS: u64 = 0x202;
/// RF: it depends on the CPU whether `syscall` saves this flag.
const RF: u64 = 0x1_0000;

/// The expected value of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The register has the value it had before the probe.
    Kept,
    /// The register has this value.
    Is(u64),
    /// The register has this value or a greater one.
    AtLeast(u64),
    /// The register may have any value.
    Any,
}

/// The expected values of the registers that a probe may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named after the registers")]
pub struct Back {
    pub rax: Value,
    pub rbx: Value,
    pub rcx: Value,
    pub rdx: Value,
    pub r11: Value,
    /// The expected flags.
    pub rflags: u64,
}

impl Back {
    /// Returns the expectation for code that changes nothing.
    pub const fn unchanged(rflags: u64) -> Back {
        use Value::Kept;
        let rflags = rflags & KEPT_FLAGS | FIXED_FLAGS;
        Back { rax: Kept, rbx: Kept, rcx: Kept, rdx: Kept, r11: Kept, rflags }
    }

    /// Returns the expectation for a system call made at `code` with these flags.
    pub fn call(code: Code, rflags: u64, rax: Value) -> Back {
        let kept = Back::unchanged(rflags);
        // `syscall` is two bytes long.
        let resume = code as *const () as u64 + 2;
        Back { rax, rcx: Value::Is(resume), r11: Value::Is(kept.rflags), ..kept }
    }
}

/// A register that does not hold the expected value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The register's name.
    pub register: &'static str,
    /// The expected value.
    pub expected: u64,
    /// The actual value.
    pub got: u64,
}

impl Back {
    /// Returns the first register that does not hold the expected value.
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
            before.general().into_iter().zip(after.general()).map(|((register, before), (_, got))| {
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

/// Compares x87 and SSE state word by word.
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
    // An x87 register has only ten bytes.
    let st = words(&before.st).zip(words(&after.st)).enumerate().map(move |(place, (before, after))| {
        let mask = if place % 2 == 0 { u64::MAX } else { 0xffff };
        pair("an x87 register", before & mask, after & mask)
    });
    control.into_iter().chain(xmm).chain(st)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_register_is_named() {
        let before = State { rbx: 7, ..State::ZERO };
        let back = Back::unchanged(before.rflags);
        assert_eq!(back.difference(&before, &before), None);
        let named = |after: State| back.difference(&before, &after).map(|it| it.register);
        assert_eq!(named(State { rbx: 8, ..before }), Some("rbx"));
        assert_eq!(named(State { rflags: 0x203, ..before }), Some("rflags"));
        let mut after = before;
        after.fpu.xmm[15][1] = 1;
        assert_eq!(named(after), Some("an xmm register"));
        let mut after = before;
        // Bits beyond the ten bytes of an x87 register.
        after.fpu.st[3][1] = 1 << 16;
        assert_eq!(named(after), None);
        assert_eq!(Back { rbx: Value::Any, ..back }.difference(&before, &State { rbx: 8, ..before }), None);
    }
}
