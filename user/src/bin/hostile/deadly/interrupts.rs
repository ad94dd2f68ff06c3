//! `int n` for every n, and its kin.

use super::dies;
use crate::class::Class;
use crate::code;
use crate::maker::Maker;
use crate::probe::{BREAKPOINT, DEBUG, Death, Expect, MakeCode, OVERFLOW, PROTECTION, Probe};
use crate::state::back;
use crate::table::Group;

/// Bytes from one `int n` to the next.
const SLOT: u64 = 8;

/// `int 0`, `int 1` and so on, each followed by the jump back.
///
/// Given: any state; entered at any multiple of [`SLOT`]. Leaves: the same, if nothing stops it.
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

/// Every number. 3 and 4 are open: their exceptions come behind the instruction. All others have closed gates, or none,
/// which is the same to ring 3: #GP with the gate's number (SDM 3A, 6.12.1.2 and 6.13).
pub const BY_NUMBER: Group = Group {
    rows: 256,
    make: |maker, number| {
        let mut probe = maker.probe(Class::Interrupts, "int", number, every_int);
        probe.state.rip += number * SLOT;
        // An `int n` has two bytes.
        let behind = probe.state.rip + 2;
        /// The error code's bit that says: a gate of the IDT.
        const IDT: u64 = 0b10;
        probe.expect = Expect::Dies(match number {
            BREAKPOINT | OVERFLOW => Death::new(number, 0, behind),
            _ => Death::new(PROTECTION, number << 3 | IDT, probe.state.rip),
        });
        probe
    },
};

/// Those that are not `int n`; all have one byte.
const OTHER: [(&str, MakeCode, u64); 2] =
    [("int3", || code!("int3"), BREAKPOINT), ("int1", || code!(".byte 0xf1"), DEBUG)];

/// ICEBP and the breakpoint.
pub const OTHERS: Group = Group { rows: OTHER.len() as u64, make: other };

fn other(maker: &mut Maker, row: u64) -> Probe {
    let (name, code, vector) = OTHER[row as usize];
    let mut probe = dies(maker, Class::Interrupts, name, 0, code(), (vector, 0));
    probe.expect = Expect::Dies(Death::new(vector, 0, probe.state.rip + 1));
    probe
}
