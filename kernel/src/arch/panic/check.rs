//! Checks the invariants of the entry and exit paths on a running CPU. Every CPU checks all invariants before its first
//! program and after each program. A build with the feature `checking` also checks them on every entry from ring 3.

use core::arch::asm;
use core::fmt;
use core::ptr;

use x86_64::VirtAddr;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::rflags::{self, RFlags};

use crate::arch::cpu::gdt::{self, IST_RESERVED};
use crate::arch::cpu::msr;
use crate::arch::panic::stop;
use crate::arch::percpu::{PerCpuData, canary};
use crate::layout::{self, IstStack};
use crate::selectors::TSS;

/// A violated invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The GS base is not the address of this CPU's data.
    GsBase(u64),
    /// The stack pointer is not in this CPU's syscall stack.
    Stack(u64),
    /// A flag is set that must be clear in ring 0.
    Flags(RFlags),
    /// The per-CPU data block does not hold its magic number.
    Magic(u64),
    /// A word in one of the CPU's tables, stacks or registers does not refer to an object of this CPU.
    Table {
        /// The meaning of the word.
        what: &'static str,
        /// The expected value.
        expected: u64,
        /// The value found.
        found: u64,
    },
    /// A part of a CPU's area does not have its initial contents, although the CPU has just come back.
    Stale(&'static str),
    /// The lowest word of a stack was overwritten.
    Canary {
        /// The address of the word.
        at: u64,
        /// The value that the word holds.
        found: u64,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::GsBase(base) => write!(f, "the GS base is {base:#x}, not this CPU's data"),
            Broken::Stack(rsp) => write!(f, "RSP is {rsp:#x}, not in this CPU's syscall stack"),
            Broken::Flags(flags) => {
                f.write_str("set in ring 0:")?;
                flags.iter_names().try_for_each(|(name, _)| write!(f, " {name}"))
            }
            Broken::Magic(found) => write!(f, "the per-CPU data's magic number is {found:#x}"),
            Broken::Table { what, expected, found } => {
                write!(f, "{what} is {found:#x}, this CPU's own is {expected:#x}")
            }
            Broken::Stale(what) => write!(f, "the CPU has come back, but {what} still has its old contents"),
            Broken::Canary { at, found } => {
                write!(f, "the canary at {at:#x}, a stack's lowest word, holds {found:#x}")
            }
        }
    }
}

impl core::error::Error for Broken {}

/// Checks the invariants that cost only a few instructions: the GS base, RSP and the flags.
///
/// # Errors
/// The first invariant that does not hold.
pub fn quick(cpu: &PerCpuData) -> Result<(), Broken> {
    let base = msr::gs_base();
    if base != ptr::from_ref(cpu) as u64 {
        return Err(Broken::GsBase(base));
    }
    let here = 0_u8;
    let rsp = ptr::from_ref(&here) as u64;
    if !layout::syscall_stack(cpu.area).contains(&rsp) {
        return Err(Broken::Stack(rsp));
    }
    flags()
}

/// Checks that all flags that must be clear in ring 0 are clear (invariant: RING-0-FLAGS). The status flags (CF, PF,
/// AF, ZF, SF, OF) may have any value.
///
/// # Errors
/// The flags that are set.
pub fn flags() -> Result<(), Broken> {
    let mut forbidden = RFlags::INTERRUPT_FLAG
        | RFlags::TRAP_FLAG
        | RFlags::DIRECTION_FLAG
        | RFlags::IOPL_LOW
        | RFlags::IOPL_HIGH
        | RFlags::NESTED_TASK;
    // Without SMAP, AC has no effect in ring 0 and CLAC does not exist, so AC may be set.
    forbidden.set(RFlags::ALIGNMENT_CHECK, Cr4::read().contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION));
    let set = rflags::read() & forbidden;
    if set.is_empty() { Ok(()) } else { Err(Broken::Flags(set)) }
}

/// Checks that GDT, TSS and stacks belong to this CPU. Reads them as the hardware does, starting from GDTR and the task
/// register.
fn tables(cpu: &PerCpuData) -> Result<(), Broken> {
    let same = |what, expected, found| {
        if expected == found { Ok(()) } else { Err(Broken::Table { what, expected, found }) }
    };
    let (own_gdt, own_tss) = cpu.tables();
    let gdt::Loaded { gdt, task, tss_address, tss } = gdt::loaded();
    same("the GDT's address", own_gdt, gdt.base.as_u64())?;
    same("the task register", TSS.0.into(), task.into())?;
    same("the TSS's address", own_tss, tss_address)?;
    let (rsp0, ist) = (tss.privilege_stack_table, tss.interrupt_stack_table);
    same("TSS.RSP0", layout::syscall_stack(cpu.area).end, rsp0[0].as_u64())?;
    same("the syscall stack's top", layout::syscall_stack(cpu.area).end, cpu.syscall_stack_top)?;
    for which in IstStack::ALL {
        let top = layout::ist_stack(cpu.area, which).end - IST_RESERVED;
        same("an IST stack's top", top, ist[which.tss_slot()].as_u64())?;
        // SAFETY: the word lies above the top of one of this CPU's IST stacks, which `percpu::create` has mapped.
        let word = unsafe { VirtAddr::new(top).as_ptr::<u64>().read_volatile() };
        same("the per-CPU data's address on an IST stack", ptr::from_ref(cpu) as u64, word)?;
    }
    Ok(())
}

/// Checks all invariants.
///
/// # Errors
/// The first invariant that does not hold.
pub fn all(cpu: &PerCpuData) -> Result<(), Broken> {
    quick(cpu)?;
    tables(cpu)?;
    if cpu.magic() != PerCpuData::MAGIC {
        return Err(Broken::Magic(cpu.magic()));
    }
    for at in canary::addresses(cpu.area) {
        // SAFETY: the word is the lowest of one of this CPU's stacks, which `percpu::create` has mapped.
        let found = unsafe { ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() };
        if found != canary::at(at) {
            return Err(Broken::Canary { at, found });
        }
    }
    Ok(())
}

/// Checks that a CPU that has come back finds its area with its initial contents. Called before it sets itself up.
///
/// # Errors
/// The first part that differs.
pub fn fresh(cpu: &PerCpuData) -> Result<(), Broken> {
    let stale = [
        (cpu.generation == 0, "the data block"),
        (cpu.apic.try_borrow().map_or(true, |apic| apic.is_some()), "the local APIC's state"),
        (cpu.program.try_borrow().map_or(true, |program| program.is_some()), "the program"),
        (cpu.after_program.get().is_some(), "the function after the program"),
        (cpu.rounds.latest().is_some(), "the end of the latest copy"),
        (cpu.measured_ticks() != (0, 0), "the measurement of the ticks"),
        (cpu.printing.get(), "the state of the console output"),
    ];
    if let Some((_, what)) = stale.into_iter().find(|(is_stale, _)| *is_stale) {
        return Err(Broken::Stale(what));
    }
    // The CPU has used only the top of its syscall stack so far. The lowest word is the canary.
    let stack = layout::syscall_stack(cpu.area);
    for at in (stack.start + 8..stack.end - 4096).step_by(8) {
        // SAFETY: the word lies in this CPU's syscall stack, which `percpu::create` has mapped.
        if unsafe { ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() } != 0 {
            return Err(Broken::Stale("the syscall stack"));
        }
    }
    Ok(())
}

/// Checks all invariants on an entry from ring 3, in a build with the feature `checking`. Ends the run if an invariant
/// is violated.
#[inline(always)]
pub(in crate::arch) fn entry(cpu: &PerCpuData) {
    if cfg!(feature = "checking") {
        entry_flags(cpu, "");
        or_end(cpu, all(cpu), "");
    }
}

/// Checks only the flags, in a build with the feature `checking`. Ends the run if a forbidden flag is set. Called after
/// a system call, and on entries through an IST stack, which may interrupt any instruction.
#[inline(always)]
pub(in crate::arch) fn entry_flags(cpu: &PerCpuData, place: &str) {
    if cfg!(feature = "checking") {
        let found = flags();
        // The report runs compiled code, whose string instructions would count downwards if DF were set. SAFETY: `cld`
        // clears DF, as the ABI requires.
        unsafe { asm!("cld", options(nomem, nostack)) };
        or_end(cpu, found, place);
    }
}

fn or_end(cpu: &PerCpuData, found: Result<(), Broken>, place: &str) {
    if let Err(broken) = found {
        stop::end(format_args!("broken invariant on {}{place}: {broken}", cpu.id()));
    }
}
