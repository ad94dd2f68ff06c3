//! System-call numbers: small numbers with every pattern of high bits.

use kernel_abi::syscall::{SYS_EXIT, TABLE_LEN};
use rand_xoshiro::rand_core::Rng;

use super::{call, expect_call};
use crate::class::Class;
use crate::maker::Maker;
use crate::probe::Probe;
use crate::table::Group;

/// All numbers of the table, and numbers that a check of too few bits, or a signed check, would take for them.
const LOW: [u64; 24] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 127, 128, 255, 256, 0x7fff, 0xffff];
const ROWS: u64 = LOW.len() as u64 * 64;

/// A small number with one more bit set.
pub const ONE_BIT: Group = Group { rows: ROWS, make: |maker, row| number(maker, low(row) | 1 << (row % 64)) };

/// A small number with all bits set from one bit upward.
pub const HIGH_BITS: Group =
    Group { rows: ROWS, make: |maker, row| number(maker, low(row) | u64::MAX << (row % 64)) };

fn low(row: u64) -> u64 {
    LOW[(row / 64) as usize]
}

/// Returns the probe of one number. `SYS_EXIT`, which would not return, is replaced by an unassigned number; a deadly
/// probe tests it.
fn number(maker: &mut Maker, number: u64) -> Probe {
    let number = if number == SYS_EXIT { TABLE_LEN as u64 } else { number };
    // The arguments are invalid addresses, regardless of the call.
    let arguments = [(); 2].map(|()| maker.random.next_u64() | 1 << 63);
    let probe = call(maker, Class::Numbers, "system call", number, number, arguments);
    expect_call(maker, probe)
}
