//! The interrupt descriptor table. All CPUs share one table, which the BSP writes once. The IST indices in the table
//! are the same for all CPUs; each CPU's TSS maps them to that CPU's stacks.

use spin::Once;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;
use x86_64::{PrivilegeLevel, VirtAddr};

use crate::arch::entry::points::stubs;
use crate::exception::{DEBUG, DOUBLE_FAULT, MACHINE_CHECK, NMI};
use crate::layout::IstStack;
use crate::selectors::KERNEL_CODE;

/// A 64-bit gate (SDM 3A, 6.14.1). The `x86_64` crate's table cannot set gates for reserved vectors; this table has
/// gates for all 256 vectors.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Gate {
    low: u64,
    high: u64,
}

const _: () = assert!(size_of::<Gate>() == 16, "a gate must have two words");

impl Gate {
    const MISSING: Gate = Gate { low: 0, high: 0 };

    /// Builds a present interrupt gate: the CPU clears IF on entry.
    const fn interrupt(handler: u64, ist: u8, dpl: PrivilegeLevel) -> Gate {
        const PRESENT_INTERRUPT_GATE: u64 = 0x8e00 << 32;
        let low = (handler & 0xffff)
            | ((KERNEL_CODE.0 as u64) << 16)
            | ((ist as u64) << 32)
            | PRESENT_INTERRUPT_GATE
            | ((dpl as u64) << 45)
            | ((handler >> 16 & 0xffff) << 48);
        Gate { low, high: handler >> 32 }
    }
}

/// The table. Every vector has a gate: an interrupt without one would raise #GP in the code that it interrupts, and would
/// never get its EOI. `int n` in ring 3 raises #GP, except for the two gates with DPL 3.
#[repr(transparent)]
struct Idt([Gate; 256]);

/// The table for CPUs that have a TSS and per-CPU data.
static IDT: Once<Idt> = Once::new();
/// The table for the BSP until it has a TSS and per-CPU data.
static EARLY: Once<Idt> = Once::new();

/// Builds the table. Without `with_ist` the table has no gates for NMI, #DB, #MC and #DF, because their entry code
/// reads the address of the per-CPU data from the IST stack. That table is for a CPU that has no TSS and no per-CPU
/// data yet.
fn build(with_ist: bool) -> Idt {
    let mut idt = Idt([Gate::MISSING; 256]);
    for (vector, stub) in stubs() {
        let ist = match u64::from(vector) {
            NMI => IstStack::Nmi.index(),
            DEBUG => IstStack::Debug.index(),
            MACHINE_CHECK => IstStack::MachineCheck.index(),
            DOUBLE_FAULT => IstStack::DoubleFault.index(),
            _ => 0,
        };
        if ist != 0 && !with_ist {
            continue;
        }
        // Ring 3 may execute `int3` and `int 4`, but no other `int n`.
        let user_may_raise = matches!(vector, 3 | 4);
        let dpl = if user_may_raise { PrivilegeLevel::Ring3 } else { PrivilegeLevel::Ring0 };
        idt.0[usize::from(vector)] = Gate::interrupt(stub, ist, dpl);
    }
    idt
}

/// Loads the table on this CPU. The first CPU builds it.
///
/// # Safety
/// This CPU's TSS is loaded, and this CPU's GS base is set before ring 3 runs. The stubs rely on both.
pub unsafe fn load() {
    set(IDT.call_once(|| build(true)));
}

/// Loads a table for the BSP's first boot steps, when all exceptions come from ring 0.
///
/// # Safety
/// The GDT contains the kernel's code segment, and the GS base does not point into a per-CPU area.
pub unsafe fn load_early() {
    set(EARLY.call_once(|| build(false)));
}

fn set(idt: &'static Idt) {
    let pointer =
        DescriptorTablePointer { limit: (size_of::<Idt>() - 1) as u16, base: VirtAddr::from_ptr(idt) };
    // SAFETY: the table is static and immutable once built, and each present gate holds the address of its vector's
    // stub.
    unsafe { lidt(&pointer) };
}
