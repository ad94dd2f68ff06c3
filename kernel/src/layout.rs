//! The layout of the kernel's half of every address space, as constants and pure functions.
//!
//! ```text
//! 0xffff_8000_0000_0000  PHYSMAP_BASE   all physical memory, writable, never executable
//! 0xffff_d000_0000_0000  PER_CPU_BASE   one area of PER_CPU_STRIDE bytes per CPU
//! 0xffff_d800_0000_0000  TABLES_BASE    arrays that are sized at boot
//! 0xffff_e000_0000_0000  APIC_REGISTERS the local APIC's page, in xAPIC mode
//! 0xffff_e000_0000_1000  IO_APIC_REGISTERS one page for each I/O APIC
//! 0xffff_e000_0010_1000  HPET_REGISTERS the page of the HPET's registers
//! 0xffff_e800_0000_0000  FRAME_BUFFER   the frame buffer of the screen
//! 0xffff_ffff_8000_0000  KERNEL_BASE    the kernel's image
//! ```
//!
//! The layout of one CPU's area. Each stack is at the upper end of its own slot. The rest of the slot, *below* the
//! stack, is the guard of that stack and is never mapped. So the guard of the next slot is directly above each stack.
//!
//! ```text
//! 0x00000  guard, 32 KiB    0x08000  syscall stack, 32 KiB
//! 0x10000  guard, 24 KiB    0x16000  NMI stack,      8 KiB
//! 0x18000  guard, 24 KiB    0x1e000  #DB stack,      8 KiB
//! 0x20000  guard, 24 KiB    0x26000  #MC stack,      8 KiB
//! 0x28000  guard, 24 KiB    0x2e000  #DF stack,      8 KiB
//! 0x30000  unmapped, 32 KiB
//! 0x38000  data block, up to 16 KiB
//! 0x3c000  unmapped, 16 KiB
//! ```
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::Range;

use kernel_abi::layout::PAGE_SIZE;

use crate::cpu::CpuId;

/// The address where the physical map starts: physical address 0 is mapped here.
pub const PHYSMAP_BASE: u64 = 0xffff_8000_0000_0000;
/// Size of the physical map, in bytes: 64 TiB.
pub const PHYSMAP_SIZE: u64 = 1 << 46;
/// The lowest address of the per-CPU areas.
pub const PER_CPU_BASE: u64 = 0xffff_d000_0000_0000;
/// Distance between the areas of two consecutive CPUs, in bytes.
pub const PER_CPU_STRIDE: u64 = 256 * 1024;
/// Start of the addresses for arrays whose lengths are known only at boot.
pub const TABLES_BASE: u64 = 0xffff_d800_0000_0000;
/// End of the addresses for these arrays: 1 GiB after their start.
pub const TABLES_END: u64 = TABLES_BASE + (1 << 30);
/// Address of the local APIC's registers in xAPIC mode. Every CPU sees its own APIC there.
pub const APIC_REGISTERS: u64 = 0xffff_e000_0000_0000;
/// Address of the first I/O APIC's registers. Each I/O APIC has one page.
pub const IO_APIC_REGISTERS: u64 = APIC_REGISTERS + PAGE_SIZE;
/// The highest number of I/O APICs that have addresses.
pub const IO_APIC_MAX: u64 = 256;
/// Address of the page with the HPET's registers.
pub const HPET_REGISTERS: u64 = IO_APIC_REGISTERS + IO_APIC_MAX * PAGE_SIZE;
/// Address of the frame buffer, if the machine has a screen.
pub const FRAME_BUFFER: u64 = 0xffff_e800_0000_0000;
/// The maximum size of the frame buffer in bytes, including the part of its first page before it: 1 GiB, the size of
/// 16384x16384 pixels.
pub const FRAME_BUFFER_SIZE: u64 = 1 << 30;
/// Link address of the kernel image.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Size in bytes of the stack on which a CPU handles system calls, interrupts and faults from ring 3.
pub const SYSCALL_STACK_SIZE: u64 = 32 * 1024;
/// Size of each IST stack, in bytes.
pub const IST_STACK_SIZE: u64 = 8 * 1024;
/// Room for a CPU's data block (`PerCpuData`, GDT, TSS), in bytes.
pub const PER_CPU_DATA_SIZE: u64 = 16 * 1024;
/// One past the highest CPU index that has an area. The areas take 4 TiB of addresses; no machine has that many CPUs.
pub const CPU_LIMIT: u32 = 1 << 24;

/// Length of the syscall stack's slot, guard included.
const SYSCALL_SLOT: u64 = 0x10000;
/// Length of one IST stack's slot, guard included.
const IST_SLOT: u64 = 0x8000;
/// Offset of the data block in the area.
const DATA_OFFSET: u64 = 0x38000;

const _: () = {
    let end = PER_CPU_BASE + CPU_LIMIT as u64 * PER_CPU_STRIDE;
    assert!(PHYSMAP_BASE + PHYSMAP_SIZE <= PER_CPU_BASE, "the physical map overlaps the per-CPU areas");
    assert!(end <= TABLES_BASE, "the per-CPU areas overlap the arrays");
    assert!(TABLES_END <= APIC_REGISTERS, "the arrays overlap the local APIC's page");
    assert!(HPET_REGISTERS + PAGE_SIZE <= FRAME_BUFFER, "the devices' pages overlap the frame buffer");
    assert!(FRAME_BUFFER + FRAME_BUFFER_SIZE <= KERNEL_BASE, "the frame buffer overlaps the kernel's image");
    assert!(SYSCALL_SLOT >= SYSCALL_STACK_SIZE + PAGE_SIZE, "the syscall stack has no guard page");
    assert!(IST_SLOT >= IST_STACK_SIZE + PAGE_SIZE, "an IST stack has no guard page");
    assert!(SYSCALL_SLOT + 4 * IST_SLOT + PAGE_SIZE <= DATA_OFFSET, "the data block touches a stack");
    assert!(DATA_OFFSET + PER_CPU_DATA_SIZE + PAGE_SIZE <= PER_CPU_STRIDE, "the data block is too long");
};

/// The exceptions that have their own IST stack, because they can occur between the `syscall` instruction and the stack
/// switch, or while the stack pointer is invalid. The value is the IST index (SDM 3A, 6.14.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IstStack {
    /// Non-maskable interrupt, vector 2.
    Nmi = 1,
    /// Debug exception, vector 1.
    Debug = 2,
    /// Machine check, vector 18.
    MachineCheck = 3,
    /// Double fault, vector 8.
    DoubleFault = 4,
}

impl IstStack {
    /// All four stacks, in the order of their IST indices.
    pub const ALL: [IstStack; 4] =
        [IstStack::Nmi, IstStack::Debug, IstStack::MachineCheck, IstStack::DoubleFault];

    /// Returns the IST index for an IDT gate: 1 to 4. In a gate, 0 means "no stack switch".
    #[must_use]
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// Returns the index into the TSS's array of stack pointers: 0 to 3.
    #[must_use]
    pub const fn tss_slot(self) -> usize {
        self as usize - 1
    }
}

/// One of a CPU's five stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackName {
    /// The stack that TSS.RSP0 and the system-call entry use.
    Syscall,
    /// One of the IST stacks.
    Ist(IstStack),
}

impl fmt::Display for StackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StackName::Syscall => "syscall stack",
            StackName::Ist(IstStack::Nmi) => "NMI stack",
            StackName::Ist(IstStack::Debug) => "#DB stack",
            StackName::Ist(IstStack::MachineCheck) => "#MC stack",
            StackName::Ist(IstStack::DoubleFault) => "#DF stack",
        })
    }
}

/// Returns the address range of a CPU's area, most of which is not mapped.
///
/// # Panics
/// If the index is not below [`CPU_LIMIT`].
#[must_use]
pub const fn area(cpu: CpuId) -> Range<u64> {
    assert!(cpu.0 < CPU_LIMIT, "CPU index beyond the per-CPU areas");
    let start = PER_CPU_BASE + cpu.0 as u64 * PER_CPU_STRIDE;
    start..start + PER_CPU_STRIDE
}

/// Returns the range of the CPU's syscall stack. The end of the range is the initial stack pointer.
///
/// # Panics
/// If the index is not below [`CPU_LIMIT`].
#[must_use]
pub const fn syscall_stack(cpu: CpuId) -> Range<u64> {
    let end = area(cpu).start + SYSCALL_SLOT;
    end - SYSCALL_STACK_SIZE..end
}

/// Returns the range of one of the CPU's IST stacks. The TSS points below the end of the range, where two words are
/// reserved.
///
/// # Panics
/// If the index is not below [`CPU_LIMIT`].
#[must_use]
pub const fn ist_stack(cpu: CpuId, which: IstStack) -> Range<u64> {
    let end = area(cpu).start + SYSCALL_SLOT + which.index() as u64 * IST_SLOT;
    end - IST_STACK_SIZE..end
}

/// Returns the range reserved for the CPU's data block. The kernel maps as many of its pages as the block needs.
///
/// # Panics
/// If the index is not below [`CPU_LIMIT`].
#[must_use]
pub const fn data_block(cpu: CpuId) -> Range<u64> {
    let start = area(cpu).start + DATA_OFFSET;
    start..start + PER_CPU_DATA_SIZE
}

/// Returns the CPU whose area contains this address; `None` outside the per-CPU areas.
#[must_use]
pub const fn cpu_of(addr: u64) -> Option<CpuId> {
    match addr.checked_sub(PER_CPU_BASE) {
        Some(offset) if offset / PER_CPU_STRIDE < CPU_LIMIT as u64 => {
            Some(CpuId((offset / PER_CPU_STRIDE) as u32))
        }
        _ => None,
    }
}

/// Returns the CPU and the stack whose guard contains the address. A fault at this address means that the stack
/// overflowed.
#[must_use]
pub fn guard_of(addr: u64) -> Option<(CpuId, StackName)> {
    let cpu = cpu_of(addr)?;
    let offset = addr - area(cpu).start;
    if offset < SYSCALL_SLOT {
        return (addr < syscall_stack(cpu).start).then_some((cpu, StackName::Syscall));
    }
    let slot = usize::try_from((offset - SYSCALL_SLOT) / IST_SLOT).ok()?;
    let which = *IstStack::ALL.get(slot)?;
    (addr < ist_stack(cpu, which).start).then_some((cpu, StackName::Ist(which)))
}

/// Returns the virtual address of a physical address in the physical map; `None` if it is beyond [`PHYSMAP_SIZE`].
#[must_use]
pub const fn physmap(phys: u64) -> Option<u64> {
    if phys < PHYSMAP_SIZE { Some(PHYSMAP_BASE + phys) } else { None }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// Returns the mapped ranges of a CPU's area in the order of their addresses, with the name of each stack.
    fn mapped(cpu: CpuId) -> Vec<(Range<u64>, Option<StackName>)> {
        let ist = IstStack::ALL.map(|which| (ist_stack(cpu, which), Some(StackName::Ist(which))));
        let mut all = std::vec![(syscall_stack(cpu), Some(StackName::Syscall))];
        all.extend(ist);
        all.push((data_block(cpu), None));
        all
    }

    #[test]
    fn nothing_overlaps_or_touches_on_1024_cpus() {
        let all: Vec<_> = (0..1024).map(CpuId).flat_map(mapped).collect();
        for pair in all.windows(2) {
            assert!(pair[0].0.end + PAGE_SIZE <= pair[1].0.start, "{:x?}", pair);
        }
        for (range, _) in &all {
            assert!(range.start < range.end && range.start % PAGE_SIZE == 0 && range.end % PAGE_SIZE == 0);
        }
    }

    #[test]
    fn each_stack_has_its_guard_directly_below() {
        for cpu in [0, 1, 2, 1023, CPU_LIMIT - 1].map(CpuId) {
            assert_eq!(guard_of(area(cpu).start), Some((cpu, StackName::Syscall)));
            for (range, name) in mapped(cpu) {
                let expected = name.map(|name| (cpu, name));
                assert_eq!(guard_of(range.start - 1), expected);
                assert_eq!(guard_of(range.start - PAGE_SIZE), expected);
                assert_eq!(guard_of(range.start), None);
                assert_eq!(guard_of(range.end - 1), None);
                assert_eq!(cpu_of(range.end - 1), Some(cpu));
            }
        }
    }

    #[test]
    fn other_addresses_are_not_guards() {
        let end = area(CpuId(CPU_LIMIT - 1)).end;
        for addr in [0, PHYSMAP_BASE, PER_CPU_BASE - 1, end, KERNEL_BASE, u64::MAX] {
            assert_eq!(guard_of(addr), None, "{addr:#x}");
            assert_eq!(cpu_of(addr), None, "{addr:#x}");
        }
    }

    #[test]
    fn sizes_match_the_documented_layout() {
        let cpu = CpuId(7);
        assert_eq!(syscall_stack(cpu).end - syscall_stack(cpu).start, 32 * 1024);
        assert_eq!(IstStack::ALL.map(IstStack::index), [1, 2, 3, 4]);
        assert_eq!(IstStack::ALL.map(IstStack::tss_slot), [0, 1, 2, 3]);
        assert_eq!(physmap(0x1000), Some(PHYSMAP_BASE + 0x1000));
        assert_eq!(physmap(PHYSMAP_SIZE), None);
    }

    #[test]
    #[should_panic(expected = "beyond the per-CPU areas")]
    fn index_beyond_the_areas_is_rejected() {
        let _ = area(CpuId(CPU_LIMIT));
    }
}
