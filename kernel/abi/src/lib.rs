//! What ring 3, the kernel and the host tool agree on: system-call numbers, error numbers, fixed
//! addresses, exit codes, the completion records and the trace. One definition of every number.
//!
//! It depends on three small crates, none with `std` or an allocator: `zerocopy`, which proves that the trace's structures
//! and their bytes are the same thing, and `base64` and `crc` for the lines in which a trace goes over a console.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod counters;
pub mod cpu_state;
pub mod errno;
pub mod record;
pub mod trace;
pub mod verdict;

/// System-call numbers: rax at `syscall`. The table has [`syscall::TABLE_LEN`] entries; a number without
/// an entry, in the table or beyond, returns `-ENOSYS`.
///
/// Arguments are in rdi, rsi, rdx, r10, r8, r9; the result is in rax; rcx and r11 are lost, every other
/// register comes back as it was.
pub mod syscall {
    /// Entries of the dispatch table, a power of two so that the index can be masked.
    pub const TABLE_LEN: usize = 16;

    /// Does nothing and returns 0: the shortest road into ring 0 and back.
    pub const SYS_NULL: u64 = 0;
    /// `(buf, len)`: writes bytes to this CPU's console line. Returns how many were accepted, which may be
    /// fewer than offered: at most [`WRITE_SERIAL_MAX`], and no more than one line's end. `-EFAULT` if the range is not
    /// in the user half or its first byte cannot be read; 0 for a length of 0, whatever the pointer.
    pub const SYS_WRITE_SERIAL: u64 = 1;
    /// Ticks of this CPU since it came online.
    pub const SYS_GET_TICKS: u64 = 2;
    /// `(code)`: ends the program on this CPU. Never returns.
    pub const SYS_EXIT: u64 = 3;
    /// The dense index of this CPU; 0 is the BSP.
    pub const SYS_GET_CPU: u64 = 4;
    /// How many CPUs are online.
    pub const SYS_CPU_COUNT: u64 = 5;
    /// Nanoseconds since boot, monotonic.
    pub const SYS_CLOCK_NS: u64 = 6;
    /// `(id, value)`: puts a user event into this CPU's trace. Returns 0.
    pub const SYS_TRACE: u64 = 7;

    /// The most bytes that one `SYS_WRITE_SERIAL` accepts.
    pub const WRITE_SERIAL_MAX: usize = 256;
}

/// Where things lie in a ring-3 address space.
pub mod layout {
    /// Size of a page, in bytes.
    pub const PAGE_SIZE: u64 = 4096;
    /// The lowest address that a program's segments may use: null and its neighbours stay unmapped.
    pub const USER_START: u64 = 0x1_0000;
    /// One past the highest address that may be mapped. The last page below the canonical hole is left
    /// out, so that no `syscall` can have a return address that is not canonical.
    pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
    /// Where the programs of this tree are linked.
    pub const PROGRAM_BASE: u64 = 0x1_0000_0000;
    /// A page that all copies of a program share, readable and writable, zeroed at the start of a run.
    pub const SHARED_PAGE: u64 = 0x2_0000_0000;
    /// One past the stack's highest byte.
    pub const STACK_TOP: u64 = 0x0000_7fff_ff00_0000;
    /// Size of the stack in bytes; the pages below it are not mapped.
    pub const STACK_SIZE: u64 = 32 * 1024;
}
