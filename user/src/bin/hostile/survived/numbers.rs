//! System-call numbers: small ones with every pattern of high bits.

use kernel_abi::syscall::{SYS_EXIT, TABLE_LEN};
use rand_xoshiro::rand_core::Rng;

use super::{call, expect_call};
use crate::class::Class;
use crate::maker::Maker;
use crate::probe::Probe;
use crate::table::Group;

/// The whole table, and what a check of fewer bits, or of signed numbers, would take for it.
const LOW: [u64; 24] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 127, 128, 255, 256, 0x7fff, 0xffff];
const ROWS: u64 = LOW.len() as u64 * 64;

/// With one more bit set.
pub const ONE_BIT: Group = Group { rows: ROWS, make: |maker, row| number(maker, low(row) | 1 << (row % 64)) };

/// With all bits from one upward set.
pub const HIGH_BITS: Group =
    Group { rows: ROWS, make: |maker, row| number(maker, low(row) | u64::MAX << (row % 64)) };

fn low(row: u64) -> u64 {
    LOW[(row / 64) as usize]
}

/// The one number that would not return is a separate probe, among the deadly ones.
fn number(maker: &mut Maker, number: u64) -> Probe {
    let number = if number == SYS_EXIT { TABLE_LEN as u64 } else { number };
    // Invalid addresses as arguments, whichever call it is.
    let arguments = [(); 2].map(|()| maker.random.next_u64() | 1 << 63);
    let probe = call(maker, Class::Numbers, "system call", number, number, arguments);
    expect_call(maker, probe)
}
