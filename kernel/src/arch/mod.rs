//! Everything that needs `unsafe`: the entry code, the CPU's tables and registers, memory and devices.
//! What can be decided without touching the machine is decided in the modules outside of this folder.
//!
//! The folders are layers, declared here from the lowest to the highest; each imports from its own and from lower ones
//! only, which `check::layers` checks. (The blank lines keep rustfmt from sorting them.)
//!
//! 1. `cpu`, `devices`, `boot`: registers, ports, what the loader hands over. They need no memory of their own.
//! 2. `memory`, `interrupts`: frames and page tables, built from what the loader said; the local APIC, whose registers are
//!    a page.
//! 3. `trace`, `percpu`: the rings' writer, and the block that holds it with all else that is one CPU's own.
//! 4. `panic`: stops all CPUs, so it has to know them; everything above may end in it.
//! 5. `provoke`: what tests ask for. Above `panic`, since a failure ends there; below the code that it interrupts, since
//!    that code calls it.
//! 6. `exit`, `task`, `entry`: a program's end leaves by an exit, and a trap may end a program. So the exits are lowest
//!    of the three, and the entries highest.
//! 7. `smp`: brings CPUs up with all of that.
//!
//! Above are the init ladder, [`crate::run`] and [`crate::syscall`]. What a layer needs of them comes as an argument: the
//! table of calls as a type parameter of the entry, what follows bring-up and a program's end as functions.
#![allow(unsafe_code, reason = "the one place that may touch the machine")]

pub mod cpu;

pub mod devices;

pub mod boot;

pub mod memory;

pub mod interrupts;

pub mod trace;

#[macro_use]
pub mod percpu;

pub mod panic;

pub mod provoke;

pub mod exit;

pub mod task;

pub mod entry;

pub mod smp;
