//! Calls that must fail or have no effect.

use kernel_abi::errno::Errno;
use kernel_abi::layout::{PAGE_SIZE, PROGRAM_BASE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END, USER_START};
use kernel_abi::syscall::{FREE, SYS_WRITE_SERIAL, TABLE_LEN};

use crate::model::{Call, ExpectedResult};

/// Address ranges that ring 3 must not pass to a call: the first and the last address of each.
const NOWHERE: [(u64, u64); 7] = [
    // The lowest pages: null pointers, with or without an offset.
    (0, USER_START - 1),
    // Unmapped: below the program, and above the shared page.
    (USER_START, PROGRAM_BASE - PAGE_SIZE - 1),
    (SHARED_PAGE + PAGE_SIZE, STACK_TOP - STACK_SIZE - 1),
    // The last page of the low canonical half, the non-canonical range, the kernel's physical map, and the kernel
    // image.
    (USER_END, (1 << 47) - 1),
    (1 << 47, 0xffff_7fff_ffff_ffff),
    (0xffff_8000_0000_0000, 0xffff_ffff_7fff_ffff),
    (0xffff_ffff_8000_0000, u64::MAX),
];

/// Returns a bad call made from two random numbers. `readable` is a readable address in the user half.
pub fn bad_call(random: u64, more: u64, readable: u64) -> Call {
    let choice = random & 0xff;
    // Do not reuse the bits that selected the kind of call.
    let random = random >> 8;
    match choice {
        0..=95 => no_such_call(random, more),
        96..=127 => empty(more),
        128..=159 => too_long(random, more, readable),
        _ => nowhere(random, more),
    }
}

/// Returns a call with an unassigned number: a free entry of the table, a small number beyond the table, or a number
/// with one or many high bits set.
fn no_such_call(random: u64, more: u64) -> Call {
    let bit = 1 << (4 + (random >> 8) % 60);
    let number = match random % 4 {
        0 => FREE.start + (random >> 8) % (FREE.end - FREE.start),
        // A wrong comparison (32-bit or signed) would take these numbers for entries of the table.
        1 => bit | (more % TABLE_LEN as u64),
        2 => bit | more,
        _ => TABLE_LEN as u64 + (random >> 8) % 256,
    };
    Call { number, first: more, second: random, expected: ExpectedResult::Exactly(Errno::NoSys.to_rax()) }
}

/// Returns a write of no bytes at any address. The kernel reads nothing, so it rejects nothing.
fn empty(address: u64) -> Call {
    Call { number: SYS_WRITE_SERIAL, first: address, second: 0, expected: ExpectedResult::Exactly(0) }
}

/// Returns a write that starts at a readable address and extends beyond the user half or wraps around.
fn too_long(random: u64, more: u64, readable: u64) -> Call {
    let least = USER_END - readable + 1;
    let length =
        if random.is_multiple_of(2) { u64::MAX - more % 4096 } else { least + more % (u64::MAX - least) };
    Call {
        number: SYS_WRITE_SERIAL,
        first: readable,
        second: length,
        expected: ExpectedResult::Exactly(Errno::Fault.to_rax()),
    }
}

/// Returns a write that starts at an unreadable address. The length is nonzero and more often small than large.
fn nowhere(random: u64, more: u64) -> Call {
    let (start, last) = NOWHERE[(random % NOWHERE.len() as u64) as usize];
    let span = last - start + 1;
    // Bugs are most likely at the ends of a range.
    let address = match (random >> 8) % 4 {
        0 => start,
        1 => last,
        _ => start + more % span,
    };
    let length = (more.rotate_left(32) >> (random >> 16 & 0x3f)).max(1);
    Call {
        number: SYS_WRITE_SERIAL,
        first: address,
        second: length,
        expected: ExpectedResult::Exactly(Errno::Fault.to_rax()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::splitmix64;

    const READABLE: u64 = PROGRAM_BASE + 0x123;

    fn calls() -> impl Iterator<Item = Call> {
        (0..200_000).map(|n| bad_call(splitmix64(n), splitmix64(!n), READABLE))
    }

    #[test]
    fn each_bad_call_has_an_evident_reason_to_fail() {
        for call in calls() {
            let end = u128::from(call.first) + u128::from(call.second);
            let mapped = (PROGRAM_BASE - PAGE_SIZE..SHARED_PAGE + PAGE_SIZE).contains(&call.first)
                || (STACK_TOP - STACK_SIZE..STACK_TOP).contains(&call.first);
            let expected = match (call.number, call.second) {
                (number, _) if number >= FREE.start => Errno::NoSys.to_rax(),
                (SYS_WRITE_SERIAL, 0) => 0,
                (SYS_WRITE_SERIAL, _) if end > u128::from(USER_END) || !mapped => Errno::Fault.to_rax(),
                _ => panic!("{call:x?} might succeed"),
            };
            assert_eq!(call.expected, ExpectedResult::Exactly(expected), "{call:x?}");
        }
    }

    #[test]
    fn every_class_of_bad_call_occurs() {
        let some = |test: &dyn Fn(&Call) -> bool| assert!(calls().any(|call| test(&call)));
        for number in FREE.start..=TABLE_LEN as u64 {
            some(&|call| call.number == number);
        }
        for bit in 4..64 {
            some(&|call| call.number >> bit == 1);
            some(&|call| call.number >= TABLE_LEN as u64 && call.number & !15 == 1 << bit);
        }
        for (start, last) in NOWHERE {
            some(&|call| call.first == start && call.second != 0);
            some(&|call| call.first == last && call.second != 0);
            some(&|call| (start + 1..last).contains(&call.first) && call.second != 0);
        }
        some(&|call| call.second == 0 && call.expected == ExpectedResult::Exactly(0));
        some(&|call| call.first.checked_add(call.second).is_none() && call.first == READABLE);
        some(&|call| call.first.checked_add(call.second).is_some() && call.first == READABLE);
    }
}
