//! Everything that needs `unsafe`: the entry code, the CPU's tables and registers, memory and devices.
//! What can be decided without touching the machine is decided in the modules outside of this folder.
#![allow(unsafe_code, reason = "the one place that may touch the machine")]

#[macro_use]
pub mod print;

pub mod acpi;
pub mod address_space;
pub mod apic;
pub mod boot;
pub mod check;
pub mod control;
pub mod counters;
pub mod dump;
pub mod entry;
pub mod exit;
pub mod gdt;
pub mod idle;
pub mod idt;
pub mod image;
pub mod loaded;
pub mod machine_check;
pub mod msr;
pub mod nmi;
pub mod paging;
pub mod percpu;
pub mod physmem;
pub mod pic;
pub mod programs;
pub mod provoke;
pub mod qemu;
pub mod rare;
pub mod ring3;
pub mod serial;
pub mod smap;
pub mod smp;
pub mod speculation;
pub mod stop;
pub mod table;
pub mod this_cpu;
pub mod tick;
pub mod timer;
pub mod trace;
pub mod trap;
pub mod tsc;
pub mod tsc_sync;
pub mod uart;
pub mod usercopy;
