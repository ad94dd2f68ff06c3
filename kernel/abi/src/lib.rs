//! Definitions shared by ring 3, the kernel and the host tool: system-call numbers, error numbers, fixed addresses,
//! exit codes, the completion records and the trace format. Every number is defined only here.
//!
//! This crate depends on three small crates that need neither `std` nor an allocator: `bytemuck`, which proves that the
//! trace structures can be converted to bytes and back, and `base64` and `crc`, for traces sent over a console.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod boot;
#[cfg(feature = "trace")]
pub mod counters;
pub mod cpu_state;
pub mod errno;
pub mod record;
pub mod syscall;
#[cfg(feature = "trace")]
pub mod trace;
pub mod verdict;

/// The program that runs if the kernel's command line does not name one.
pub const DEFAULT_PROGRAM: &str = "selftest";

/// The layout of a user address space.
pub mod layout {
    /// Size of a page, in bytes.
    pub const PAGE_SIZE: u64 = 4096;
    /// The lowest address that a program's segments may use. The pages around address 0 stay unmapped.
    pub const USER_START: u64 = 0x1_0000;
    /// One past the highest address that may be mapped. The last page below the non-canonical range is excluded, so
    /// that no `syscall` can have a non-canonical return address.
    pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
    /// The link address of the programs in this tree.
    pub const PROGRAM_BASE: u64 = 0x1_0000_0000;
    /// The page shared by all copies of a program. It is readable and writable, and zeroed at the start of a run.
    pub const SHARED_PAGE: u64 = 0x2_0000_0000;
    /// One past the highest byte of the stack.
    pub const STACK_TOP: u64 = 0x0000_7fff_ff00_0000;
    /// Size of the stack in bytes. The pages below the stack are not mapped.
    pub const STACK_SIZE: u64 = 32 * 1024;
}
