//! Invariants of the road that can be looked at while it is in use. At the end of every run all of them are; a build
//! with the feature `checking` looks at them on every way in from ring 3.

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

/// An invariant that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The GS base is not this CPU's data.
    GsBase(u64),
    /// The stack pointer is not in this CPU's syscall stack.
    Stack(u64),
    /// A flag is set in ring 0 that is ring 3's to set, or an entry's to clear.
    Flags(RFlags),
    /// The block does not hold its magic number.
    Magic(u64),
    /// A table of the CPU's does not say where this CPU's own things are.
    Table {
        /// What the word means.
        what: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The lowest word of a stack was overwritten.
    Canary {
        /// Its address.
        at: u64,
        /// What it holds.
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
            Broken::Canary { at, found } => {
                write!(f, "the canary at {at:#x}, a stack's lowest word, holds {found:#x}")
            }
        }
    }
}

impl core::error::Error for Broken {}

/// What can be looked at in a few instructions.
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

/// None of the flags is set that would let ring 3's choice reach into ring 0. Carry and its kin are the compiler's.
///
/// # Errors
/// Those that are.
pub fn flags() -> Result<(), Broken> {
    let mut forbidden = RFlags::INTERRUPT_FLAG
        | RFlags::TRAP_FLAG
        | RFlags::DIRECTION_FLAG
        | RFlags::IOPL_LOW
        | RFlags::IOPL_HIGH
        | RFlags::NESTED_TASK;
    // Without SMAP there is no CLAC, and AC means nothing.
    forbidden.set(RFlags::ALIGNMENT_CHECK, Cr4::read().contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION));
    let set = rflags::read() & forbidden;
    if set.is_empty() { Ok(()) } else { Err(Broken::Flags(set)) }
}

/// The GDT, the TSS and the stacks that this CPU would use are its own: read as the CPU reads them, from the task
/// register on.
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
        // SAFETY: the word above the top of a stack of this CPU's, which is mapped.
        let word = unsafe { VirtAddr::new(top).as_ptr::<u64>().read_volatile() };
        same("an IST stack's word", ptr::from_ref(cpu) as u64, word)?;
    }
    Ok(())
}

/// Everything.
///
/// # Errors
/// The first invariant that does not hold.
pub fn all(cpu: &PerCpuData) -> Result<(), Broken> {
    quick(cpu)?;
    tables(cpu)?;
    if cpu.magic() != PerCpuData::MAGIC {
        return Err(Broken::Magic(cpu.magic()));
    }
    for at in canary::places(cpu.area) {
        // SAFETY: the lowest word of a stack of this CPU's, which is mapped.
        let found = unsafe { ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() };
        if found != canary::at(at) {
            return Err(Broken::Canary { at, found });
        }
    }
    Ok(())
}

/// In a build with the feature `checking`, on a way in from ring 3: ends the run if anything does not hold.
#[inline(always)]
pub(in crate::arch) fn entry(cpu: &PerCpuData) {
    if cfg!(feature = "checking") {
        entry_flags(cpu, "");
        or_end(cpu, all(cpu), "");
    }
}

/// The same where only the flags are known: behind a system call, and on a way in that may have struck anywhere.
#[inline(always)]
pub(in crate::arch) fn entry_flags(cpu: &PerCpuData, place: &str) {
    if cfg!(feature = "checking") {
        let found = flags();
        // The report is made of compiled code, which with DF set would overwrite what lies in front of it.
        // SAFETY: clears the flag that is clear by the rules of compiled code.
        unsafe { asm!("cld", options(nomem, nostack)) };
        or_end(cpu, found, place);
    }
}

fn or_end(cpu: &PerCpuData, found: Result<(), Broken>, place: &str) {
    if let Err(broken) = found {
        stop::end(format_args!("broken invariant on {}{place}: {broken}", cpu.id()));
    }
}
