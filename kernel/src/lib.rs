//! The kernel's library has three parts: modules of pure functions, which are tested on the host; `arch`, the layers
//! that touch the hardware; and above it the run and the system calls, which contain no `unsafe`. Each part imports
//! only earlier parts. The entire library also compiles for the host; only execution needs the machine.
#![cfg_attr(not(any(test, fuzzing)), no_std)]
#![deny(unsafe_code)]

pub mod acpi_tables;
pub mod alternation;
pub mod clock;
pub mod clock_source;
pub mod cmdline;
pub mod cpu;
pub mod exception;
pub mod features;
pub mod frame;
pub mod frames;
pub mod initial_stack;
pub mod layout;
pub mod line;
pub mod online;
pub mod physmap;
pub mod plural;
pub mod power;
pub mod program;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod repeat;
pub mod screen;
pub mod selectors;
pub mod spcr;
pub mod stage;
pub mod stray;
pub mod sync;
pub mod sysret;
pub mod text;
pub mod tick_work;
pub mod topology;
pub mod transmit;
pub mod turns;
pub mod uart_probe;
pub mod user_slice;
pub mod windows;

#[macro_use]
pub mod arch;

pub mod cycles;
pub mod run;
pub mod syscall;
