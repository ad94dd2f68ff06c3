//! The registers at the program's entry: neither kernel values nor those of another program are left in them.

use core::arch::asm;

use user::registers::Registers;
use user::start::entry_registers;

use crate::{Verdict, expect};

/// All general-purpose registers but rsp zero, rflags 0x202, x87 and SSE as after a reset. No code between the
/// entry and this check uses x87 or SSE: programs are compiled without.
pub fn registers_are_zero() -> Verdict {
    for (name, got, expected) in entry_registers().all() {
        expect(format_args!("at the entry: {name}"), &expected, &got)?;
    }

    let expected = Registers::ZERO.fpu;
    let mut got = Registers::ZERO.fpu;
    // SAFETY: writes 512 bytes, which is what `Fpu` has, 16-byte aligned as it is.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut got, options(nostack, preserves_flags)) };
    expect(format_args!("at the entry: x87 control word"), &expected.x87_control, &got.x87_control)?;
    expect(format_args!("at the entry: x87 status word"), &expected.x87_status, &got.x87_status)?;
    expect(format_args!("at the entry: x87 tags"), &expected.x87_tags, &got.x87_tags)?;
    expect(format_args!("at the entry: MXCSR"), &expected.mxcsr, &got.mxcsr)?;
    expect(format_args!("at the entry: st0 to st7"), &expected.st, &got.st)?;
    expect(format_args!("at the entry: xmm0 to xmm15"), &expected.xmm, &got.xmm)
}
