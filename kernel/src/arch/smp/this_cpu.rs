//! The running CPU's own bring-up, the same on the BSP and on the others: its tables, its registers, its local APIC.

use core::ptr;

use crate::arch::cpu::control::{self, ControlState, Features};
use crate::arch::cpu::{gdt, msr};
use crate::arch::entry::idt;
use crate::arch::exit::points::restart_on;
use crate::arch::interrupts::apic::LocalApic;
use crate::arch::percpu::{self, PerCpuData};
use crate::cpu::CpuId;

/// Where `syscall` enters: [`crate::arch::entry::points::syscall_entry`] with the table of calls.
pub type SyscallEntry = unsafe extern "sysv64" fn();

/// Leaves this CPU's stack for the top of its own and goes on there.
///
/// # Safety
/// [`percpu::create`] was called for the index; this is that CPU, with interrupts off; nothing on the present stack is
/// needed any more.
pub unsafe fn enter(id: CpuId, next: extern "sysv64" fn(&'static PerCpuData) -> !) -> ! {
    // SAFETY: the caller's promise.
    unsafe {
        let cpu = percpu::of(id);
        restart_on(cpu.syscall_stack_top, cpu, next)
    }
}

/// Loads this CPU's GDT, TSS and IDT: from here on whatever goes wrong ends in a report, a lost stack included.
///
/// # Safety
/// Once, on the CPU that the block is for, with interrupts off and the kernel's tables loaded.
pub unsafe fn load_tables(cpu: &'static PerCpuData) {
    // SAFETY: the block and its tables are this CPU's alone, and stay. The IST stacks' top words are written, and
    // traps from ring 0 ask nothing of GS, whose base is 0 now.
    unsafe {
        gdt::load(&cpu.gdt);
        idt::load();
    }
}

/// Makes this block the running CPU's: control registers, GS base, the MSRs of the system-call path, local APIC with its
/// timer stopped.
///
/// # Panics
/// If an MSR does not hold its value, the APIC cannot be enabled or has another id than the table said: ring 3
/// must not run on such a CPU, and the boot fails.
///
/// # Safety
/// Once, on the CPU that the block is for, after [`load_tables`], with interrupts off, the legacy PICs masked and the
/// APIC's registers mapped.
pub unsafe fn set_up(cpu: &'static PerCpuData, features: Features, syscall_entry: SyscallEntry) {
    // SAFETY: the kernel's tables are loaded; the block is this CPU's alone, and stays.
    let (control, programmed) = unsafe {
        (control::init(features), msr::program(ptr::from_ref(cpu) as u64, syscall_entry as *const () as u64))
    };
    let actual = ControlState::read();
    if actual != control {
        panic!("{} ({}): has {actual}, but was given {control}", cpu.id(), cpu.apic_id);
    }
    if let Err(error) = programmed {
        panic!("{} ({}): {error}", cpu.id(), cpu.apic_id);
    }
    // SAFETY: the caller's promise, and the IDT is loaded.
    match unsafe { LocalApic::enable(features) } {
        Ok(apic) => {
            assert!(apic.id() == cpu.apic_id, "the {} has a local APIC with {}", cpu.apic_id, apic.id());
            *cpu.apic.borrow_mut() = Some(apic);
        }
        Err(error) => panic!("{} ({}): {error}", cpu.id(), cpu.apic_id),
    }
    cpu.published.control.call_once(|| actual);
}
