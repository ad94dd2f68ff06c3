//! System-call numbers: calls without effect, and unassigned numbers.

use kernel_abi::errno::Errno;
use kernel_abi::syscall::{FREE, TABLE_LEN};
use user::sys;

use crate::{Verdict, expect};

/// Numbers of no system call: the free entries of the table, the first number beyond it, and numbers that a wrong
/// bounds check (signed, 32-bit, or of the low byte only) would take for valid entries.
pub const UNKNOWN: [u64; FREE_LEN + BEYOND.len()] = {
    let mut numbers = [0; FREE_LEN + BEYOND.len()];
    let mut n = 0;
    while n < numbers.len() {
        numbers[n] = if n < FREE_LEN { FREE.start + n as u64 } else { BEYOND[n - FREE_LEN] };
        n += 1;
    }
    numbers
};

const FREE_LEN: usize = (FREE.end - FREE.start) as usize;

/// The numbers in [`UNKNOWN`] that are outside the table.
const BEYOND: [u64; 12] = [
    TABLE_LEN as u64,
    TABLE_LEN as u64 + 1,
    255,
    256,
    1 << 16,
    1 << 31,
    1 << 32,
    1 << 32 | 1,
    1 << 61,
    1 << 63,
    1 << 63 | 1,
    u64::MAX,
];

pub fn null_and_trace_return_0() -> Verdict {
    expect(format_args!("SYS_NULL"), &0, &sys::null())?;
    expect(format_args!("SYS_TRACE"), &0, &sys::trace(1, sys::get_cpu()))?;
    expect(format_args!("SYS_TRACE with extreme values"), &0, &sys::trace(u64::MAX, u64::MAX))
}

pub fn unknown_numbers_are_enosys() -> Verdict {
    for number in UNKNOWN {
        // SAFETY: no such call exists. If one did, the arguments would not designate memory.
        let rax = unsafe { sys::syscall(number, [0; 6]) };
        expect(format_args!("system call {number:#x}"), &Errno::NoSys.to_rax(), &rax)?;
    }
    Ok(())
}
