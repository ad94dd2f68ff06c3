//! Sets up the running CPU, BSP or AP: descriptor tables, registers and local APIC.

use core::ptr;
use core::sync::atomic::Ordering;

use crate::arch::cpu::control::{self, ControlState};
use crate::arch::cpu::tsc::TscState;
use crate::arch::cpu::{gdt, machine_check, msr};
use crate::arch::entry::idt;
use crate::arch::entry::points::syscall_entry;
use crate::arch::exit::points::restart_on;
use crate::arch::inject;
use crate::arch::interrupts::apic::{ApicState, LocalApic};
use crate::arch::interrupts::eoi::Eoi;
use crate::arch::panic::stop;
use crate::arch::percpu::{self, CallTables, PerCpuData};
use crate::arch::task::idle;
use crate::cpu::CpuId;
use crate::features::Features;

/// Switches to the CPU's empty syscall stack and calls `next` on it.
///
/// # Safety
/// [`percpu::create`] was called for this index. The caller runs on that CPU with interrupts off, and the contents of
/// the current stack are no longer needed.
pub unsafe fn enter(id: CpuId, next: extern "sysv64" fn(&'static PerCpuData) -> !) -> ! {
    // SAFETY: the area exists and belongs to this CPU, so its syscall stack is mapped and unused. The contents of the
    // current stack are no longer needed (guaranteed by the caller).
    unsafe {
        let cpu = percpu::of(id);
        restart_on(cpu.syscall_stack_top, cpu, next)
    }
}

/// Loads this CPU's GDT, TSS and IDT. From here on every exception is reported, even with an invalid stack pointer.
///
/// # Safety
/// Called once, on the CPU that `cpu` belongs to, with interrupts off and the kernel's page tables loaded.
pub unsafe fn load_tables(cpu: &'static PerCpuData) {
    // SAFETY: the data and its tables are static and belong to this CPU alone. The words of the IST stacks that hold
    // the data's address are written (invariant: IST-WORD). Exceptions from ring 0 work while the GS base is still 0.
    unsafe {
        gdt::load(&cpu.gdt);
        idt::load();
    }
}

/// Sets this CPU's clock, and discards the interrupts that the firmware left: an interrupt that is in service blocks
/// the tick, and a pending one would be counted as a stray interrupt of the run.
pub fn set_clock(cpu: &PerCpuData) {
    inject::leave_interrupts(cpu, idle::take_pending);
    let in_service = cpu.with_apic(LocalApic::end_left_over).unwrap_or(0);
    // At most 256 interrupts are pending, one for each vector. The timer is stopped and all lines are masked.
    for _ in 0..256 {
        if !cpu.with_apic(|apic| apic.has_pending()).unwrap_or(false) {
            break;
        }
        idle::take_pending();
    }
    let (pending, vectors) = cpu.rare.take_strays();
    if in_service != 0 || pending != 0 {
        say!(
            cpu,
            "interrupts from before the setup are discarded: {in_service} in service, {pending} pending {vectors}"
        );
    }
    cpu.set_clock();
}

/// Sets the number that `rdtscp` and `rdpid` return in ring 3 on this CPU. Called after the bring-up, because the
/// number is not final before.
///
/// # Panics
/// If the MSR does not hold the number.
pub fn set_number(cpu: &PerCpuData) {
    if let Err(error) = msr::program_number(Features::detect(), cpu.id()) {
        panic!("{} ({}): {error}", cpu.id(), cpu.apic_id);
    }
}

/// Sets up the running CPU with `cpu` as its data: control registers, GS base, the MSRs of the system-call path, and
/// the local APIC with its timer stopped.
///
/// # Panics
/// If a control register or MSR does not hold the value written to it, if the APIC cannot be enabled, or if its id
/// differs from the id by which the CPU was identified. Ring 3 must not run on such a CPU, so the boot fails.
///
/// # Safety
/// Called once, on the CPU that `cpu` belongs to, after [`load_tables`], with interrupts off, the legacy PICs masked,
/// the APIC's registers mapped, and the APIC in the mode that `features` implies.
pub unsafe fn set_up(cpu: &'static PerCpuData, features: Features, calls: &'static CallTables) {
    cpu.set_call_tables(calls);
    // This must precede `control::init`, which sets CR4.MCE: from then on a machine check is an exception, whose
    // handler reads the banks.
    machine_check::set_up(|stale| {
        // A CPU that comes back has cleared its banks during its first setup.
        let when = if cpu.generation == 0 { "before the boot" } else { "after its last setup" };
        warn!(cpu, "{} had a machine check {when}, which is cleared: {stale}", cpu.apic_id);
    });
    // SAFETY: the kernel's page tables are loaded, the data belongs to this CPU alone and is static (guaranteed by the
    // caller), and `syscall_entry` is the entry point of `syscall`. The tables that it uses are set.
    let (control, programmed) = unsafe {
        (control::init(features), msr::program(ptr::from_ref(cpu) as u64, syscall_entry as *const () as u64))
    };
    let actual = ControlState::read();
    if actual != control {
        panic!("{} ({}): has {actual}, but was set to {control}", cpu.id(), cpu.apic_id);
    }
    if let Err(error) = programmed {
        panic!("{} ({}): {error}", cpu.id(), cpu.apic_id);
    }
    // SAFETY: interrupts are off, the PICs are masked and the registers are mapped (guaranteed by the caller), and the
    // IDT is loaded.
    match unsafe { LocalApic::enable(features) } {
        Ok(apic) => {
            assert!(
                apic.id() == cpu.apic_id,
                "the CPU with {} has a local APIC with {}",
                cpu.apic_id,
                apic.id()
            );
            cpu.eoi.set(Eoi::of(&apic));
            *cpu.apic.borrow_mut() = Some(apic);
        }
        Err(error) => panic!("{} ({}): {error}", cpu.id(), cpu.apic_id),
    }
    let first =
        (*cpu.published.apic.call_once(ApicState::read), *cpu.published.control.get().unwrap_or(&actual));
    // A CPU that has left the run and come back must have the same state as after its first bring-up.
    let now = (ApicState::read(), actual);
    if first != now {
        panic!("{} came back with {}, {}; it had {}, {}", cpu.id(), now.0, now.1, first.0, first.1);
    }
    cpu.published.tsc.call_once(TscState::read);
    // Publish this last, because it marks the CPU as running.
    cpu.published.control.call_once(|| actual);
    // A CPU that panics first writes that it panics and then reads this flag. The exchange orders this write before the
    // check for a panic that follows: either that CPU sends an NMI to this one, or this CPU sees the panic.
    cpu.published.away.swap(false, Ordering::SeqCst);
    stop::park_if_stopping(cpu);
}
