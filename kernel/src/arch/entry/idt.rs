//! The interrupt descriptor table: one for all CPUs, written once on the BSP. IST indices are the same
//! everywhere; which stack they mean is each CPU's TSS's business.

use spin::Once;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;
use x86_64::{PrivilegeLevel, VirtAddr};

use crate::arch::entry::points::STUBS;
use crate::exception::{DEBUG, DOUBLE_FAULT, MACHINE_CHECK, NMI};
use crate::layout::IstStack;
use crate::selectors::KERNEL_CODE;

/// A 64-bit gate (SDM 3A, 6.14.1). The `x86_64` crate's table does not let the reserved vectors be set, and this
/// one has a gate for all 32.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Gate {
    low: u64,
    high: u64,
}

const _: () = assert!(size_of::<Gate>() == 16, "a gate has two words");

impl Gate {
    const MISSING: Gate = Gate { low: 0, high: 0 };

    /// A present interrupt gate: interrupts are off on entry.
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

/// The table; vectors without a gate fault with #GP, as does `int n` from ring 3 for every gate but two.
#[repr(transparent)]
struct Idt([Gate; 256]);

static IDT: Once<Idt> = Once::new();
/// For the BSP until it has a TSS and per-CPU data.
static EARLY: Once<Idt> = Once::new();

/// The table for a CPU with a TSS and per-CPU data (`whole`), or for one without: that one lacks the four vectors whose
/// handlers find their way by their own stack.
fn build(whole: bool) -> Idt {
    let mut idt = Idt([Gate::MISSING; 256]);
    for &(vector, stub) in STUBS {
        let ist = match u64::from(vector) {
            NMI => IstStack::Nmi.index(),
            DEBUG => IstStack::Debug.index(),
            MACHINE_CHECK => IstStack::MachineCheck.index(),
            DOUBLE_FAULT => IstStack::DoubleFault.index(),
            _ => 0,
        };
        if ist != 0 && !whole {
            continue;
        }
        // `int3` and `int 4` are ring 3's to use; every other `int n` is not.
        let is_open = matches!(vector, 3 | 4);
        let dpl = if is_open { PrivilegeLevel::Ring3 } else { PrivilegeLevel::Ring0 };
        idt.0[usize::from(vector)] = Gate::interrupt(stub as *const () as u64, ist, dpl);
    }
    idt
}

/// Loads the table on this CPU, building it first if this is the first CPU.
///
/// # Safety
/// This CPU's TSS is loaded. Before ring 3 runs, its GS base is set: the stubs rely on both.
pub unsafe fn load() {
    set(IDT.call_once(|| build(true)));
}

/// Loads a table that reports the exceptions of the BSP's first steps, all of which come from ring 0.
///
/// # Safety
/// The GDT has the kernel's code segment, and the GS base is not in the per-CPU areas.
pub unsafe fn load_early() {
    set(EARLY.call_once(|| build(false)));
}

fn set(idt: &'static Idt) {
    let pointer =
        DescriptorTablePointer { limit: (size_of::<Idt>() - 1) as u16, base: VirtAddr::from_ptr(idt) };
    // SAFETY: the table is static and never changes again; every gate in it leads to its stub.
    unsafe { lidt(&pointer) };
}
