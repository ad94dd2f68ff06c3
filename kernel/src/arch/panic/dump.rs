//! The output of `dump_cpus=yes`: registers, tables and stacks of the running CPU, read from the hardware.

use core::arch::asm;

use kernel_abi::cpu_state::COUNT;
use kernel_abi::record::{Record, StateRecord};
use x86_64::instructions::tables::sidt;
use x86_64::registers::control::Cr3;
use x86_64::registers::model_specific::Msr;

use crate::arch::cpu::control::ControlState;
use crate::arch::cpu::{gdt, msr};
use crate::arch::devices::serial;
use crate::arch::percpu::PerCpuData;

/// Prints this CPU's record.
pub fn print(cpu: &PerCpuData) {
    let record = StateRecord { cpu: cpu.id().0, apic_id: cpu.apic_id.0, registers: registers() };
    serial::print_record(&Record::State(record));
}

/// Reads the registers, in the order of [`kernel_abi::cpu_state::REGISTERS`].
fn registers() -> [u64; COUNT] {
    let loaded = gdt::loaded();
    let idt = sidt();
    let ldtr: u16;
    // SAFETY: `sldt` copies the selector into a register and has no other effect.
    unsafe { asm!("sldt {0:x}", out(reg) ldtr, options(nomem, nostack, preserves_flags)) };
    let (rsp0, ist) = (loaded.tss.privilege_stack_table, loaded.tss.interrupt_stack_table);
    let [cr0, cr4, efer, pat, dr7, debugctl] = ControlState::read().values();
    // SAFETY: every x86-64 CPU has these MSRs, and reading them has no effect.
    let read = |number| unsafe { Msr::new(number).read() };
    [
        loaded.task.into(),
        loaded.tss_address,
        ldtr.into(),
        loaded.gdt.base.as_u64(),
        loaded.gdt.limit.into(),
        idt.base.as_u64(),
        idt.limit.into(),
        rsp0[0].as_u64(),
        ist[0].as_u64(),
        ist[1].as_u64(),
        ist[2].as_u64(),
        ist[3].as_u64(),
        msr::gs_base(),
        read(msr::IA32_KERNEL_GS_BASE),
        cr0,
        Cr3::read_raw().0.start_address().as_u64(),
        cr4,
        efer,
        pat,
        read(msr::IA32_STAR),
        read(msr::IA32_LSTAR),
        read(msr::IA32_CSTAR),
        read(msr::IA32_FMASK),
        read(msr::IA32_SYSENTER_CS),
        dr7,
        debugctl,
    ]
}
