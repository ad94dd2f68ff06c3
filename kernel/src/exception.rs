//! The names of the exceptions, and the data of an exception for reports.
#![forbid(unsafe_code)]

use core::fmt;

/// Debug exception.
pub const DEBUG: u64 = 1;
/// Non-maskable interrupt.
pub const NMI: u64 = 2;
/// Double fault.
pub const DOUBLE_FAULT: u64 = 8;
/// General protection.
pub const GENERAL_PROTECTION: u64 = 13;
/// Page fault; CR2 holds the address.
pub const PAGE_FAULT: u64 = 14;
/// Machine check.
pub const MACHINE_CHECK: u64 = 18;

/// Returns the name of a vector (SDM 3A, table 6-1).
#[must_use]
pub const fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error (#DE)",
        DEBUG => "debug exception (#DB)",
        NMI => "non-maskable interrupt (NMI)",
        3 => "breakpoint (#BP)",
        4 => "overflow (#OF)",
        5 => "bound range exceeded (#BR)",
        6 => "invalid opcode (#UD)",
        7 => "device not available (#NM)",
        DOUBLE_FAULT => "double fault (#DF)",
        10 => "invalid TSS (#TS)",
        11 => "segment not present (#NP)",
        12 => "stack fault (#SS)",
        GENERAL_PROTECTION => "general protection (#GP)",
        PAGE_FAULT => "page fault (#PF)",
        16 => "x87 floating-point error (#MF)",
        17 => "alignment check (#AC)",
        MACHINE_CHECK => "machine check (#MC)",
        19 => "SIMD floating-point exception (#XM)",
        20 => "virtualization exception (#VE)",
        21 => "control protection (#CP)",
        28 => "hypervisor injection (#HV)",
        29 => "VMM communication (#VC)",
        30 => "security exception (#SX)",
        9 | 15 | 22..=27 | 31 => "reserved exception",
        _ => "unexpected interrupt",
    }
}

/// The data of an exception, for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The vector.
    pub vector: u64,
    /// The error code; 0 if the exception has none.
    pub error_code: u64,
    /// The faulting address, for page faults.
    pub cr2: Option<u64>,
    /// The address of the instruction.
    pub rip: u64,
    /// The interrupted stack pointer.
    pub rsp: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, error code {:#x}", name(self.vector), self.error_code)?;
        if let Some(cr2) = self.cr2 {
            write!(f, ", CR2 {cr2:#x}")?;
        }
        write!(f, ", RIP {:#x}, RSP {:#x}", self.rip, self.rsp)
    }
}
