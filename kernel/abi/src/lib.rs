//! What ring 3, the kernel and the host tool share: system-call numbers, error numbers, fixed
//! addresses, exit codes, the completion records and the trace. Every number is defined once.
//!
//! It depends on three small crates, none with `std` or an allocator: `bytemuck`, which proves that the trace's
//! structures can be converted to bytes and back, and `base64` and `crc` for the lines of a trace on a console.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(feature = "trace")]
pub mod counters;
pub mod cpu_state;
pub mod errno;
pub mod record;
pub mod syscall;
#[cfg(feature = "trace")]
pub mod trace;
pub mod verdict;

/// What the kernel needs to be started. The host tool checks it before it starts QEMU.
pub mod boot {
    /// The longest command line in bytes, without its NUL. QEMU copies the command line of a PVH kernel to a buffer
    /// of 4096 bytes (`cmdline_buffer` in its pc-bios/optionrom/pvh_main.c), and a longer one overwrites what follows.
    pub const COMMAND_LINE_MAX: usize = 4095;
    /// The least memory of the machine, in bytes: the kernel's image lies at 2 MiB, and the firmware keeps the upper
    /// end.
    pub const MEMORY_MIN: u64 = 4 << 20;
}

/// The layout of a ring-3 address space.
pub mod layout {
    /// Size of a page, in bytes.
    pub const PAGE_SIZE: u64 = 4096;
    /// The lowest address that a program's segments may use: the pages around null stay unmapped.
    pub const USER_START: u64 = 0x1_0000;
    /// One past the highest address that may be mapped. The last page below the canonical hole is left
    /// out, so that no `syscall` can have a non-canonical return address.
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
