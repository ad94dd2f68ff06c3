//! Memory ranges for `SYS_WRITE_SERIAL`, the only call that takes memory: boundary addresses with boundary lengths.

use kernel_abi::layout::{PAGE_SIZE, PROGRAM_BASE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END, USER_START};
use kernel_abi::syscall::{SYS_WRITE_SERIAL, WRITE_SERIAL_MAX};
use rand_xoshiro::rand_core::Rng;

use super::{call, expect_call};
use crate::class::Class;
use crate::console;
use crate::maker::{KERNEL, Maker, PHYSICAL};
use crate::probe::Probe;
use crate::table::Group;

const MAX: u64 = WRITE_SERIAL_MAX as u64;

/// Unreadable or unmapped addresses: null, one byte before and after every boundary, and the kernel half.
const NOWHERE: [u64; 34] = [
    0,
    1,
    PAGE_SIZE - 1,
    PAGE_SIZE,
    USER_START - 1,
    USER_START,
    PROGRAM_BASE - PAGE_SIZE,
    PROGRAM_BASE - 8,
    PROGRAM_BASE - 1,
    SHARED_PAGE - 8,
    SHARED_PAGE - 1,
    SHARED_PAGE + PAGE_SIZE,
    STACK_TOP - STACK_SIZE - PAGE_SIZE,
    STACK_TOP - STACK_SIZE - 8,
    STACK_TOP - STACK_SIZE - 1,
    STACK_TOP,
    STACK_TOP + 1,
    USER_END - PAGE_SIZE,
    USER_END - 1,
    USER_END,
    USER_END + 1,
    (1 << 47) - 1,
    1 << 47,
    (1 << 47) + 1,
    (1 << 63) - 1,
    1 << 63,
    0xffff_7fff_ffff_ffff,
    PHYSICAL,
    PHYSICAL + 0x10_0000,
    0xffff_d000_0000_fff8,
    KERNEL,
    KERNEL + 0x10_0000,
    u64::MAX - 7,
    u64::MAX,
];

/// Offsets into the memory that is written: at its start and around a page boundary.
const INTO: [u64; 6] = [0, 1, 150, PAGE_SIZE - MAX, PAGE_SIZE - 8, PAGE_SIZE - 1];
/// Starts of ranges in the highest bytes of the stack, as distances from its top.
const BELOW_TOP: [u64; 3] = [128, 8, 1];
/// Starts of ranges in the shared page, as distances from its end.
const BELOW_SHARED_END: [u64; 4] = [MAX, MAX - 1, 8, 1];

const SOMEWHERE: u64 = 3 * INTO.len() as u64 + BELOW_TOP.len() as u64;
const LENGTHS: u64 = 28;

/// Ranges outside the shared page.
pub const ELSEWHERE: Group = Group {
    rows: (NOWHERE.len() as u64 + SOMEWHERE) * LENGTHS,
    make: |maker, row| {
        let address = match NOWHERE.get((row / LENGTHS) as usize) {
            Some(address) => *address,
            None => somewhere(row / LENGTHS - NOWHERE.len() as u64),
        };
        write(maker, Class::Pointers, address, length(address, row % LENGTHS))
    },
};

/// Ranges at the end of the shared page, which all copies rewrite.
pub const SHARED: Group = Group {
    rows: BELOW_SHARED_END.len() as u64 * LENGTHS * 4,
    make: |maker, row| {
        console::rewrite_shared(maker.random.next_u64());
        let below = BELOW_SHARED_END[(row / LENGTHS) as usize % BELOW_SHARED_END.len()];
        let address = SHARED_PAGE + PAGE_SIZE - below;
        write(maker, Class::Shared, address, length(address, row % LENGTHS))
    },
};

fn somewhere(place: u64) -> u64 {
    let into = INTO.len() as u64;
    match place.checked_sub(3 * into) {
        Some(place) => STACK_TOP - BELOW_TOP[place as usize],
        None => {
            let source = (place / into) as usize;
            // At the low end of the stack fewer bytes may be filled.
            let offset = INTO[(place % into) as usize];
            console::sources()[source] + if source == 2 { offset % MAX } else { offset }
        }
    }
}

fn length(address: u64, index: u64) -> u64 {
    const PLAIN: [u64; 22] = [
        0,
        1,
        2,
        7,
        8,
        9,
        MAX - 1,
        MAX,
        MAX + 1,
        2 * MAX,
        PAGE_SIZE - 1,
        PAGE_SIZE,
        PAGE_SIZE + 1,
        1 << 31,
        1 << 32,
        1 << 32 | 1,
        1 << 40,
        1 << 47,
        1 << 63,
        1 << 63 | 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    match PLAIN.get(index as usize) {
        Some(length) => *length,
        // Up to the end of the user half and one byte further, up to 2^64 and beyond it, and into the kernel half.
        None => match index as usize - PLAIN.len() {
            0 => USER_END.wrapping_sub(address),
            1 => USER_END.wrapping_sub(address).wrapping_add(1),
            2 => u64::MAX - address,
            3 => (u64::MAX - address).wrapping_add(1),
            4 => (u64::MAX - address).wrapping_add(2),
            _ => PHYSICAL.wrapping_sub(address).wrapping_add(8),
        },
    }
}

fn write(maker: &mut Maker, class: Class, address: u64, length: u64) -> Probe {
    let name = match class {
        Class::Shared => "write from the shared page, length",
        _ => "write, length",
    };
    let probe = call(maker, class, name, length, SYS_WRITE_SERIAL, [address, length]);
    expect_call(maker, probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_ranges_are_inside_the_written_memory() {
        let [constant, writable, bottom, top] = console::sources();
        for place in 0..SOMEWHERE {
            let address = somewhere(place);
            let good = [constant, writable]
                .iter()
                .any(|start| (*start..start + 2 * PAGE_SIZE - MAX).contains(&address))
                || (bottom..bottom + MAX).contains(&address)
                || (top..STACK_TOP).contains(&address);
            assert!(good, "{place}: {address:#x}");
        }
    }

    #[test]
    fn every_length_is_generated() {
        assert_eq!(length(PAGE_SIZE, LENGTHS - 1), PHYSICAL - PAGE_SIZE + 8);
        assert_eq!(length(PAGE_SIZE, LENGTHS - 3), 0_u64.wrapping_sub(PAGE_SIZE));
        assert_eq!(length(0, 26), 1);
    }
}
