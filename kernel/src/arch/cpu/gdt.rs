//! This CPU's GDT and TSS: where ring 3's interrupts, faults and the four special exceptions find a stack.

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

/// The five segment words and the TSS's two.
pub type Gdt = GlobalDescriptorTable<7>;

/// The word at the top of each IST stack, above what the CPU pushes: the address of this CPU's `PerCpuData`.
/// The four exceptions read it there, because GS may be anybody's when they strike. Two words, so that the
/// stack pointer stays 16-byte aligned.
pub const IST_RESERVED: u64 = 16;

/// A TSS with this CPU's stacks. The I/O permission map lies beyond the limit, so that every port faults in ring 3.
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

/// A GDT with the fixed words and this TSS.
///
/// # Safety
/// The TSS stays where it is for as long as the GDT is loaded.
#[must_use]
pub unsafe fn gdt_for(tss: *const TaskStateSegment) -> Gdt {
    let mut gdt = Gdt::from_raw_entries(&GDT_WORDS);
    // SAFETY: the caller keeps the TSS in place.
    let selector = gdt.append(unsafe { Descriptor::tss_segment_unchecked(tss) });
    assert!(selector == TSS, "the TSS is not where the selectors say");
    gdt
}

/// The tables that a CPU uses, read as it reads them.
pub struct Loaded {
    /// GDTR.
    pub gdt: DescriptorTablePointer,
    /// The task register.
    pub task: u16,
    /// Where the TSS lies that the task register's descriptor names.
    pub tss_address: u64,
    /// That TSS.
    pub tss: TaskStateSegment,
}

/// This CPU's, once it has loaded them.
#[must_use]
pub fn loaded() -> Loaded {
    let gdt = sgdt();
    let task: u16;
    // SAFETY: copies the selector.
    unsafe { core::arch::asm!("str {0:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    // SAFETY: `ltr` found the TSS's two words here, in a table that stays.
    let [low, high] = unsafe { gdt.base.as_ptr::<[u64; 2]>().byte_add(usize::from(task)).read() };
    // A descriptor's base lies in three pieces (SDM 3A, 8.2.3).
    let tss_address = (low >> 16 & 0xff_ffff) | (low >> 56 << 24) | high << 32;
    // SAFETY: the TSS stays; the CPU never writes it.
    let tss = unsafe { VirtAddr::new(tss_address).as_ptr::<TaskStateSegment>().read_unaligned() };
    Loaded { gdt, task, tss_address, tss }
}

/// Loads GDT, segments and TSS on this CPU, and no LDT.
///
/// # Safety
/// Both belong to this CPU alone, and stay.
pub unsafe fn load(gdt: &Gdt) {
    // SAFETY: the table has the words that `selectors` names. FS is left null, which clears its base. GS is not touched:
    // it has been null since the boot code or INIT, and its base is set afterwards, by MSR.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(KERNEL_CODE);
        SS::set_reg(KERNEL_DATA);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        FS::set_reg(SegmentSelector::NULL);
        load_tss(TSS);
        // At reset LDTR is *present*, with base 0 and 64 KiB of limit (SDM 3A, table 10-1): an LDT in ring 3's own
        // half, out of which a program could load descriptors of its making. A null one has none.
        core::arch::asm!("lldt {0:x}", in(reg) SegmentSelector::NULL.0, options(nostack, preserves_flags));
    }
}
