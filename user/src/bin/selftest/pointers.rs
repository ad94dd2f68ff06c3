//! `SYS_WRITE_SERIAL` with valid and invalid buffers.

use core::sync::atomic::Ordering;

use kernel_abi::errno::Errno;
use kernel_abi::layout::{PAGE_SIZE, PROGRAM_BASE, SHARED_PAGE, STACK_SIZE, STACK_TOP, USER_END, USER_START};
use kernel_abi::syscall::{SYS_WRITE_SERIAL, WRITE_SERIAL_MAX};
use user::{shared_page, sys};

use crate::{Verdict, expect};

/// Calls `SYS_WRITE_SERIAL` with any range, valid or invalid, and returns rax.
fn offer(address: u64, len: u64) -> u64 {
    // SAFETY: the call writes no memory of this program.
    unsafe { sys::syscall(SYS_WRITE_SERIAL, [address, len, 0, 0, 0, 0]) }
}

/// Writes a line in pieces, which the kernel prints as one line. Checks that each call accepts at least one byte and no
/// more than were offered.
pub fn a_line_in_pieces() -> Verdict {
    const LINE: &[u8] = b"selftest: this line is written in pieces of 7 bytes while all CPUs do the same\n";
    for piece in LINE.chunks(7) {
        let mut rest = piece;
        while !rest.is_empty() {
            let accepted = offer(rest.as_ptr() as u64, rest.len() as u64) as usize;
            let sane = (1..=rest.len()).contains(&accepted);
            expect(
                format_args!("{accepted:#x} of {} bytes accepted: at least 1, at most all", rest.len()),
                &true,
                &sane,
            )?;
            rest = &rest[accepted..];
        }
    }
    Ok(())
}

/// Checks that an empty range is accepted at any address, because the kernel reads nothing from it.
pub fn an_empty_range_is_0() -> Verdict {
    for address in [0, 1, STACK_TOP, USER_END, 1 << 47, 1 << 63, 0xffff_8000_0000_0000, u64::MAX] {
        expect(format_args!("no bytes at {address:#x}"), &0, &offer(address, 0))?;
    }
    Ok(())
}

/// Checks that the kernel rejects ranges whose first byte is not readable, and ranges that extend beyond the user half.
/// It must print none of their bytes.
pub fn bad_ranges_are_efault() -> Verdict {
    let good = c"selftest: FAILED: this must not be printed".as_ptr() as u64;
    let stack_bottom = STACK_TOP - STACK_SIZE;
    let ranges = [
        // The lowest addresses, which are never mapped.
        (0, 1),
        (0, PAGE_SIZE),
        (0, u64::MAX),
        (1, 1),
        (PAGE_SIZE, 8),
        (USER_START - 1, 1),
        // Addresses not mapped in this program. The second range of a pair ends in a mapped page.
        (USER_START, 8),
        (PROGRAM_BASE - 8, 8),
        (PROGRAM_BASE - 8, 16),
        (SHARED_PAGE - 8, 16),
        (SHARED_PAGE + PAGE_SIZE, 1),
        (stack_bottom - 8, 8),
        (stack_bottom - 8, 16),
        (STACK_TOP, 1),
        // Around the end of the user half, and the non-canonical range above it.
        (USER_END - 1, 1),
        (USER_END - 1, 2),
        (USER_END, 1),
        ((1 << 47) - 1, 1),
        ((1 << 47) - 1, 2),
        (1 << 47, 1),
        (1 << 63, 1),
        (0xffff_7fff_ffff_ffff, 1),
        (0xffff_7fff_ffff_ffff, 2),
        // The kernel half: the physical map, the kernel image, the last byte, ranges that wrap around.
        (0xffff_8000_0000_0000, 1),
        (0xffff_8000_0010_0000, 64),
        (0xffff_ffff_8000_0000, 64),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (u64::MAX - 7, 16),
        // Starts at a readable address and extends beyond the user half.
        (good, USER_END - good + 1),
        (good, 1 << 47),
        (good, 1 << 63),
        (good, 0xffff_8000_0000_0000 - good),
        (good, u64::MAX - good),
        (good, (u64::MAX - good) + 1),
        (good, u64::MAX),
    ];
    for (address, len) in ranges {
        let rax = offer(address, len);
        expect(format_args!("{len:#x} bytes at {address:#x}"), &Errno::Fault.to_rax(), &rax)?;
    }
    Ok(())
}

/// Checks a range in the user half of which only the start is mapped. The call accepts at most the bytes up to the end
/// of the mapping, or fails.
pub fn a_partly_mapped_range() -> Verdict {
    const TAIL: &[u8; 32] = b"selftest: up to a mapping's end\n";
    const FIRST_WORD: usize = (PAGE_SIZE as usize - TAIL.len()) / 8;
    const _: () = assert!(TAIL.len() <= WRITE_SERIAL_MAX, "all of it must fit in one call");

    // All copies write the same values, so their order does not matter.
    for (index, word) in TAIL.chunks_exact(8).enumerate() {
        let word = word.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        shared_page().word(FIRST_WORD + index).store(word, Ordering::Relaxed);
    }
    let rax = offer(SHARED_PAGE + PAGE_SIZE - TAIL.len() as u64, 1 << 40);
    if Errno::from_rax(rax) == Some(Errno::Fault) {
        return Ok(());
    }
    let accepted = rax as usize;
    let sane = (1..=TAIL.len()).contains(&accepted);
    expect(
        format_args!("{accepted:#x} of 32 mapped bytes accepted: at most all, or an error"),
        &true,
        &sane,
    )?;
    sys::write_all(&TAIL[accepted..]);
    Ok(())
}
