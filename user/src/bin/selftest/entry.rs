//! The registers at program entry: they contain neither kernel values nor values of another program.

use core::arch::asm;

use user::registers::Registers;
use user::start::entry_registers;

use crate::{Verdict, expect};

/// Checks that all general registers except rsp were zero at program entry, that rflags was 0x202, and that x87 and SSE
/// have their reset state. No code between program entry and this check uses x87 or SSE, because programs are compiled
/// without them.
pub fn registers_are_zero() -> Verdict {
    for (name, got, expected) in entry_registers().all() {
        expect(format_args!("at entry: {name}"), &expected, &got)?;
    }

    let expected = Registers::ZERO.fpu;
    let mut got = Registers::ZERO.fpu;
    // SAFETY: writes 512 bytes, the size of `Fpu`, which is 16-byte aligned.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut got, options(nostack, preserves_flags)) };
    expect(format_args!("at entry: x87 control word"), &expected.x87_control, &got.x87_control)?;
    expect(format_args!("at entry: x87 status word"), &expected.x87_status, &got.x87_status)?;
    expect(format_args!("at entry: x87 tags"), &expected.x87_tags, &got.x87_tags)?;
    expect(format_args!("at entry: MXCSR"), &expected.mxcsr, &got.mxcsr)?;
    expect(format_args!("at entry: st0 to st7"), &expected.st, &got.st)?;
    expect(format_args!("at entry: xmm0 to xmm15"), &expected.xmm, &got.xmm)
}
