//! `int n` for every n, `int3` and `int1`.

use super::dies;
use crate::class::Class;
use crate::code;
use crate::maker::Maker;
use crate::probe::{BREAKPOINT, DEBUG, Death, Expect, MakeCode, OVERFLOW, PROTECTION, Probe};
use crate::state::back;
use crate::table::Group;

/// Distance from one `int n` to the next, in bytes.
const SLOT: u64 = 8;

/// `int 0`, `int 1` and so on, each followed by the jump to `back`.
///
/// Entry state: any, at any multiple of [`SLOT`]. Exit state: the same, if no exception is raised.
#[unsafe(naked)]
unsafe extern "sysv64" fn every_int() {
    core::arch::naked_asm!(
        ".balign {slot}",
        ".set n, 0",
        ".rept 256",
        ".byte 0xcd, n",
        "jmp {back}",
        ".balign {slot}",
        ".set n, n + 1",
        ".endr",
        slot = const SLOT,
        back = sym back,
    )
}

/// `int n` with every number. Ring 3 may use 3 and 4, whose exceptions are reported after the instruction. All other
/// gates have DPL 0 or are not present. In both cases ring 3 gets #GP with the number of the gate (SDM 3A, 6.12.1.2 and
/// 6.13).
pub const BY_NUMBER: Group = Group {
    rows: 256,
    make: |maker, number| {
        let mut probe = maker.probe(Class::Interrupts, "int", number, every_int);
        probe.state.rip += number * SLOT;
        // `int n` is two bytes long.
        let after = probe.state.rip + 2;
        /// The bit of the error code that denotes an IDT gate.
        const IDT: u64 = 0b10;
        probe.expect = Expect::Dies(match number {
            BREAKPOINT | OVERFLOW => Death::new(number, 0, after),
            _ => Death::new(PROTECTION, number << 3 | IDT, probe.state.rip),
        });
        probe
    },
};

/// The one-byte instructions.
const OTHER: [(&str, MakeCode, u64); 2] =
    [("int3", || code!("int3"), BREAKPOINT), ("int1", || code!(".byte 0xf1"), DEBUG)];

/// `int3` and `int1`.
pub const OTHERS: Group = Group { rows: OTHER.len() as u64, make: other };

fn other(maker: &mut Maker, row: u64) -> Probe {
    let (name, code, vector) = OTHER[row as usize];
    let mut probe = dies(maker, Class::Interrupts, name, 0, code(), (vector, 0));
    probe.expect = Expect::Dies(Death::new(vector, 0, probe.state.rip + 1));
    probe
}
