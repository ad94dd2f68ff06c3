//! Distinct values for all registers, and the search for the first register that differs.

use core::fmt;

use crate::registers::Registers;

/// Carry, parity, adjust, zero, sign, direction, overflow, nested task, alignment check, identification: every flag
/// that ring 3 can set, except the trap flag, which would raise #DB after the next instruction.
pub const ALL_FLAGS: u64 = 0x0024_4cd5;
/// IF and bit 1, which is always set.
const NO_FLAGS: u64 = 0x202;

/// Returns the two patterns to load before a kernel entry. Each bit of a register is set in one pattern and clear in
/// the other. No two registers have the same value, and a register's value differs from CPU to CPU.
#[must_use]
pub fn patterns(cpu: u64) -> [Registers; 2] {
    [pattern(cpu, 0), pattern(cpu, u64::MAX)]
}

fn pattern(cpu: u64, inverted: u64) -> Registers {
    let mut state = cpu << 8;
    // The multiplier is odd, so distinct states give distinct values.
    let mut next = || {
        state += 1;
        state.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ inverted
    };
    let mut registers = Registers::filled(&mut next);
    let fpu = &mut registers.fpu;
    fpu.xmm = [(); 16].map(|()| [next(), next()]);
    // Normalised numbers (leading bit set), the form in which the FPU itself stores them.
    fpu.st = [(); 8].map(|()| [next() | 1 << 63, 0x3fff]);
    fpu.x87_tags = 0xff;
    // All exceptions are masked. x87: round down with single precision, or round up with double precision. MXCSR: round
    // towards zero with all sticky bits set, or round down with flush-to-zero.
    (fpu.x87_control, fpu.mxcsr, registers.rflags) =
        if inverted == 0 { (0x047f, 0x7fbf, ALL_FLAGS | NO_FLAGS) } else { (0x0a7f, 0xbf80, NO_FLAGS) };
    registers
}

/// A register whose value differs from the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The register's name, and its number if it belongs to a numbered set such as xmm0 to xmm15.
    pub register: (&'static str, Option<usize>),
    /// The expected value, low half first.
    pub expected: [u64; 2],
    /// The actual value, low half first.
    pub got: [u64; 2],
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, number) = self.register;
        f.write_str(name)?;
        if let Some(number) = number {
            write!(f, "{number}")?;
        }
        let ([expected, high], [got, got_high]) = (self.expected, self.got);
        if (high, got_high) == (0, 0) {
            return write!(f, ": expected {expected:#x}, got {got:#x}");
        }
        write!(f, ": expected {high:#x}_{expected:016x}, got {got_high:#x}_{got:016x}")
    }
}

/// Returns the first register that differs, including x87 and SSE state.
#[must_use]
pub fn difference(expected: &Registers, got: &Registers) -> Option<Difference> {
    let word = |name, expected: u64, got: u64| ((name, None), [expected, 0], [got, 0]);
    let (before, after) = (&expected.fpu, &got.fpu);
    let integers = expected.general().into_iter().zip(got.general());
    let integers = integers.map(|((name, expected), (_, got))| word(name, expected, got));
    let flags = [word("rflags", expected.rflags, got.rflags)];
    let control = [
        word("x87 control word", before.x87_control.into(), after.x87_control.into()),
        word("x87 status word", before.x87_status.into(), after.x87_status.into()),
        word("x87 tags", before.x87_tags.into(), after.x87_tags.into()),
        word("MXCSR", before.mxcsr.into(), after.mxcsr.into()),
    ];
    // Only ten of the sixteen bytes belong to the register.
    let st = |[low, high]: [u64; 2]| [low, high & 0xffff];
    let st = (0..8).map(|index| (("st", Some(index)), st(before.st[index]), st(after.st[index])));
    let xmm = (0..16).map(|index| (("xmm", Some(index)), before.xmm[index], after.xmm[index]));
    let mut all = integers.chain(flags).chain(control).chain(st).chain(xmm);
    let (register, expected, got) = all.find(|(_, expected, got)| expected != got)?;
    Some(Difference { register, expected, got })
}
