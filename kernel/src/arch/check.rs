//! Invariants of the road that can be looked at while it is in use. At the end of every run all of them are; a build
//! with the feature `checking` looks at them on every system call.

use core::fmt;
use core::ptr;

use x86_64::instructions::interrupts;

use super::msr;
use super::percpu::PerCpuData;
use crate::layout::{self, IstStack};

/// An invariant that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The GS base is not this CPU's data.
    GsBase(u64),
    /// The stack pointer is not in this CPU's syscall stack.
    Stack(u64),
    /// Interrupts are on.
    InterruptsOn,
    /// The block does not hold its magic number.
    Magic(u64),
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
            Broken::InterruptsOn => f.write_str("interrupts are on in ring 0"),
            Broken::Magic(found) => write!(f, "the per-CPU data's magic number is {found:#x}"),
            Broken::Canary { at, found } => {
                write!(f, "the canary at {at:#x}, a stack's lowest word, holds {found:#x}")
            }
        }
    }
}

impl core::error::Error for Broken {}

/// What the lowest word of each stack holds: it differs from stack to stack, so that a stack of another CPU's is
/// noticed too.
#[must_use]
pub const fn canary(at: u64) -> u64 {
    at ^ 0x5ca1_ab1e_0dd5_ba11
}

/// The lowest words of a CPU's stacks.
pub fn canaries(cpu: &PerCpuData) -> impl Iterator<Item = u64> {
    let ist = IstStack::ALL.map(|which| layout::ist_stack(cpu.area, which));
    ist.into_iter().chain([layout::syscall_stack(cpu.area)]).map(|stack| stack.start)
}

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
    if interrupts::are_enabled() {
        return Err(Broken::InterruptsOn);
    }
    Ok(())
}

/// Everything.
///
/// # Errors
/// The first invariant that does not hold.
pub fn all(cpu: &PerCpuData) -> Result<(), Broken> {
    quick(cpu)?;
    if cpu.magic() != PerCpuData::MAGIC {
        return Err(Broken::Magic(cpu.magic()));
    }
    for at in canaries(cpu) {
        // SAFETY: the lowest word of a stack of this CPU's, which is mapped.
        let found = unsafe { ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() };
        if found != canary(at) {
            return Err(Broken::Canary { at, found });
        }
    }
    Ok(())
}
