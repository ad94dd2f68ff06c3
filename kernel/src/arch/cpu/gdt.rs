//! This CPU's GDT and TSS. The TSS holds the stack for entries from ring 3 and the IST stacks of NMI, #DB, #MC and #DF.

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, SS, Segment};
use x86_64::instructions::tables::{load_tss, sgdt};
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use crate::cpu::CpuId;
use crate::layout::{self, IstStack};
use crate::selectors::{GDT_WORDS, KERNEL_CODE, KERNEL_DATA, TSS};

/// Five one-word descriptors, the null descriptor included, and the two-word TSS descriptor.
pub type Gdt = GlobalDescriptorTable<7>;

/// Bytes reserved at the top of each IST stack, above the frame that the CPU pushes. The first word holds the address
/// of this CPU's `PerCpuData` (invariant: IST-WORD): the handlers of NMI, #DB, #MC and #DF read it there, because they
/// may interrupt code that runs with either GS base. Two words are reserved so that the stack pointer stays 16-byte
/// aligned.
pub const IST_RESERVED: u64 = 16;

/// Builds a TSS with this CPU's stacks. The I/O permission bitmap lies beyond the TSS limit, so that every port access
/// in ring 3 faults.
#[must_use]
pub fn tss_for(cpu: CpuId) -> TaskStateSegment {
    let mut tss = TaskStateSegment::new();
    tss.privilege_stack_table[0] = VirtAddr::new(layout::syscall_stack(cpu).end);
    for which in IstStack::ALL {
        tss.interrupt_stack_table[which.tss_slot()] =
            VirtAddr::new(layout::ist_stack(cpu, which).end - IST_RESERVED);
    }
    tss
}

/// Builds a GDT with the fixed descriptors and a descriptor of this TSS.
///
/// # Safety
/// The TSS must neither move nor be freed while the GDT is loaded.
#[must_use]
pub unsafe fn gdt_for(tss: *const TaskStateSegment) -> Gdt {
    let mut gdt = Gdt::from_raw_entries(&GDT_WORDS);
    // SAFETY: the caller guarantees that the TSS stays at this address.
    let selector = gdt.append(unsafe { Descriptor::tss_segment_unchecked(tss) });
    assert!(selector == TSS, "the TSS descriptor is not at the selector TSS");
    gdt
}

/// The GDT and TSS that a CPU uses, as found from its registers.
pub struct Loaded {
    /// GDTR.
    pub gdt: DescriptorTablePointer,
    /// The task register's selector.
    pub task: u16,
    /// The address of the TSS, from the descriptor that the task register selects.
    pub tss_address: u64,
    /// A copy of the TSS.
    pub tss: TaskStateSegment,
}

/// Reads this CPU's GDTR, task register and TSS. Call it only after [`load`].
#[must_use]
pub fn loaded() -> Loaded {
    let gdt = sgdt();
    let task: u16;
    // SAFETY: `str` copies the selector to a register and has no other effect.
    unsafe { core::arch::asm!("str {0:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    // SAFETY: the two-word TSS descriptor is at this address, because `ltr` has loaded it from there. The loaded GDT
    // neither moves nor is freed.
    let [low, high] = unsafe { gdt.base.as_ptr::<[u64; 2]>().byte_add(usize::from(task)).read() };
    // The base address is split into three fields (SDM 3A, 8.2.3).
    let tss_address = (low >> 16 & 0xff_ffff) | (low >> 56 << 24) | high << 32;
    // SAFETY: the TSS of a loaded GDT neither moves nor is freed, and nothing writes it: the CPU only reads a 64-bit
    // TSS.
    let tss = unsafe { VirtAddr::new(tss_address).as_ptr::<TaskStateSegment>().read_unaligned() };
    Loaded { gdt, task, tss_address, tss }
}

/// Loads GDT, segment registers, TSS and a null LDT on this CPU.
///
/// # Safety
/// The GDT and its TSS belong to this CPU alone, and neither move nor are freed.
pub unsafe fn load(gdt: &Gdt) {
    // SAFETY: the GDT has the descriptors that `selectors` names, and the caller guarantees that the GDT neither moves
    // nor is freed. FS becomes null, which may clear its base; nothing uses FS in ring 0. GS is not loaded: the boot
    // code or the trampoline has loaded it with base 0, and `msr::program` sets its base afterwards.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(KERNEL_CODE);
        SS::set_reg(KERNEL_DATA);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        FS::set_reg(SegmentSelector::NULL);
        load_tss(TSS);
        // After reset, LDTR describes a present LDT with base 0 and a limit of 64 KiB (SDM 3A, table 10-1). That LDT
        // would lie in the user half, so a program could write descriptors there and load them. With a null LDTR there
        // is no LDT.
        core::arch::asm!("lldt {0:x}", in(reg) SegmentSelector::NULL.0, options(nostack, preserves_flags));
    }
}
