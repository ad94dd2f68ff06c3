//! All code that needs `unsafe`: the entry code, the CPU's tables and registers, memory and devices. Decisions that do
//! not touch the hardware are made in the modules outside this folder.
//!
//! The folders are layers, declared here from the lowest to the highest. Each imports only from itself and from lower
//! layers, which `check::layers` enforces. (The blank lines keep rustfmt from sorting them.)
//!
//! 1. `cpu`, `devices`, `boot`: registers, I/O ports, and the boot information from the loader. These need no memory
//!    allocation.
//! 2. `memory`, `interrupts`: page frames and page tables, built from the loader's memory map; the local APIC, whose
//!    registers occupy a page.
//! 3. `trace`, `percpu`: the writer of the trace rings, and the per-CPU data block, which contains the writer.
//! 4. `panic`: stops all CPUs, so it needs the per-CPU data. Every higher layer may call it.
//! 5. `inject`: failures and interrupts that tests request. It is above `panic`, which it calls, and below the code
//!    that calls it.
//! 6. `exit`, `task`, `entry`: ending a program uses an exit, and a trap may end a program. So `exit` is the lowest of
//!    the three and `entry` the highest.
//! 7. `smp`: brings up CPUs, using all lower layers.
//!
//! Above these layers are the init sequence, [`crate::run`] and [`crate::syscall`]. The layers here do not import them.
//! The entry code gets the system-call table as a type parameter; bring-up and the end of a program get the next
//! function to call as an argument.
#![allow(unsafe_code, reason = "the only folder that may touch the hardware")]

pub mod cpu;

pub mod devices;

pub mod boot;

pub mod memory;

pub mod interrupts;

pub mod trace;

#[macro_use]
pub mod percpu;

pub mod panic;

pub mod inject;

pub mod exit;

pub mod task;

pub mod entry;

pub mod smp;
