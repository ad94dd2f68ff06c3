//! The words of the GDT, the selectors of its segments, and the matching value of IA32_STAR.
//!
//! ```text
//! 0x00 null | 0x08 kernel code | 0x10 kernel data | 0x18 user data | 0x20 user code | 0x28 TSS (two words)
//! ```
//!
//! SYSRET determines the order of the segments: it loads SS from `STAR[63:48] + 8` and CS from `STAR[63:48] + 16` (SDM
//! 2B, SYSRET). There is no 32-bit code segment, so compatibility mode and its system-call instructions are
//! unreachable.
#![forbid(unsafe_code)]

use x86_64::PrivilegeLevel::{Ring0, Ring3};
use x86_64::structures::gdt::{DescriptorFlags, SegmentSelector};

/// The 64-bit code segment of ring 0.
pub const KERNEL_CODE: SegmentSelector = SegmentSelector::new(1, Ring0);
/// The data segment of ring 0.
pub const KERNEL_DATA: SegmentSelector = SegmentSelector::new(2, Ring0);
/// The data segment of ring 3, with RPL 3.
pub const USER_DATA: SegmentSelector = SegmentSelector::new(3, Ring3);
/// The 64-bit code segment of ring 3, with RPL 3.
pub const USER_CODE: SegmentSelector = SegmentSelector::new(4, Ring3);
/// The task-state segment.
pub const TSS: SegmentSelector = SegmentSelector::new(5, Ring0);

/// The words of the GDT before the TSS descriptor, including the null descriptor.
pub const GDT_WORDS: [u64; 5] = [
    0,
    DescriptorFlags::KERNEL_CODE64.bits(),
    DescriptorFlags::KERNEL_DATA.bits(),
    DescriptorFlags::USER_DATA.bits(),
    DescriptorFlags::USER_CODE64.bits(),
];

/// The selector that SYSCALL loads into CS. SYSCALL loads this value plus 8 into SS.
pub const STAR_KERNEL_BASE: u16 = KERNEL_CODE.0;
/// The base from which SYSRETQ computes CS and SS. Its RPL must be 3: Intel CPUs force RPL 3 into both selectors, but
/// AMD CPUs copy the RPL of SS from this value, and a stack segment with RPL 0 would make the next `iretq` to ring 3
/// fault.
pub const STAR_USER_BASE: u16 = 0x10 | Ring3 as u16;
/// The value of IA32_STAR. The low half is the EIP of the 32-bit SYSCALL, which long mode does not use.
pub const STAR: u64 = ((STAR_USER_BASE as u64) << 48) | ((STAR_KERNEL_BASE as u64) << 32);

const _: () = {
    assert!(
        KERNEL_CODE.0 == 0x08 && KERNEL_DATA.0 == STAR_KERNEL_BASE + 8,
        "SYSCALL loads CS, and SS with CS + 8"
    );
    assert!(STAR_USER_BASE & 3 == 3, "without RPL 3 an AMD CPU loads SS with RPL 0");
    assert!(STAR_USER_BASE + 8 == USER_DATA.0, "SYSRETQ loads SS from the user base + 8");
    assert!(STAR_USER_BASE + 16 == USER_CODE.0, "SYSRETQ loads CS from the user base + 16");
    assert!(
        USER_CODE.0 == 0x23 && USER_DATA.0 == 0x1b && TSS.0 == 0x28,
        "docs/syscall-abi.md documents other values"
    );
    // Bit 53 is L, which selects a 64-bit code segment. Bit 54 is D, which must be clear if L is set.
    assert!(GDT_WORDS[1] >> 53 & 3 == 1 && GDT_WORDS[4] >> 53 & 3 == 1, "code segments must be 64-bit");
    // Bit 40 is Accessed. It is preset so that loading a segment never writes to the GDT.
    assert!(
        GDT_WORDS[1] & GDT_WORDS[2] & GDT_WORDS[3] & GDT_WORDS[4] & 1 << 40 != 0,
        "Accessed must be preset"
    );
};
