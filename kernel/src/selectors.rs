//! The GDT's words, the selectors that name them, and the value of IA32_STAR that agrees with both.
//!
//! ```text
//! 0x00 null | 0x08 kernel code | 0x10 kernel data | 0x18 user data | 0x20 user code | 0x28 TSS (two words)
//! ```
//!
//! The order is SYSRET's: it loads SS from `STAR[63:48] + 8` and CS from `STAR[63:48] + 16` (SDM 2B,
//! SYSRET). There is no 32-bit code segment, so compatibility mode and its system-call instructions are unreachable.
#![forbid(unsafe_code)]

use x86_64::PrivilegeLevel::{Ring0, Ring3};
use x86_64::structures::gdt::{DescriptorFlags, SegmentSelector};

/// Ring 0's code segment, 64 bits.
pub const KERNEL_CODE: SegmentSelector = SegmentSelector::new(1, Ring0);
/// Ring 0's data segment.
pub const KERNEL_DATA: SegmentSelector = SegmentSelector::new(2, Ring0);
/// Ring 3's data segment, with RPL 3.
pub const USER_DATA: SegmentSelector = SegmentSelector::new(3, Ring3);
/// Ring 3's code segment, 64 bits, with RPL 3.
pub const USER_CODE: SegmentSelector = SegmentSelector::new(4, Ring3);
/// The task-state segment.
pub const TSS: SegmentSelector = SegmentSelector::new(5, Ring0);

/// The GDT's words before the TSS, the null descriptor included.
pub const GDT_WORDS: [u64; 5] = [
    0,
    DescriptorFlags::KERNEL_CODE64.bits(),
    DescriptorFlags::KERNEL_DATA.bits(),
    DescriptorFlags::USER_DATA.bits(),
    DescriptorFlags::USER_CODE64.bits(),
];

/// What SYSCALL takes CS from; SS is this plus 8.
pub const STAR_KERNEL_BASE: u16 = KERNEL_CODE.0;
/// What SYSRETQ takes CS and SS from. Its RPL is 3: Intel forces RPL 3 into both selectors, AMD copies the
/// RPL of SS from here, and a stack segment with RPL 0 makes the next `iretq` to ring 3 fault.
pub const STAR_USER_BASE: u16 = 0x10 | Ring3 as u16;
/// IA32_STAR, whole. The low half is the 32-bit SYSCALL's EIP, which long mode does not use.
pub const STAR: u64 = ((STAR_USER_BASE as u64) << 48) | ((STAR_KERNEL_BASE as u64) << 32);

const _: () = {
    assert!(KERNEL_CODE.0 == 0x08 && KERNEL_DATA.0 == STAR_KERNEL_BASE + 8, "SYSCALL loads CS, SS = CS + 8");
    assert!(STAR_USER_BASE & 3 == 3, "without RPL 3 an AMD CPU loads SS with RPL 0");
    assert!(STAR_USER_BASE + 8 == USER_DATA.0, "SYSRETQ loads SS from the user base + 8");
    assert!(STAR_USER_BASE + 16 == USER_CODE.0, "SYSRETQ loads CS from the user base + 16");
    assert!(USER_CODE.0 == 0x23 && USER_DATA.0 == 0x1b && TSS.0 == 0x28, "the ABI page names these values");
    // Bit 53 is L, a 64-bit code segment; bit 54 is D, which must then be clear.
    assert!(GDT_WORDS[1] >> 53 & 3 == 1 && GDT_WORDS[4] >> 53 & 3 == 1, "code segments are 64-bit");
    // Bit 40 is Accessed: preset, so that loading a segment never writes to the GDT.
    assert!(GDT_WORDS[1] & GDT_WORDS[2] & GDT_WORDS[3] & GDT_WORDS[4] & 1 << 40 != 0, "Accessed is preset");
};
