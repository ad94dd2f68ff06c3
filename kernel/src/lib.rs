//! The kernel's library: decisions in pure modules that run and are tested on the host, and `arch`, which touches
//! the machine. All of it compiles for the host as well; only execution needs the machine.
#![cfg_attr(not(any(test, fuzzing)), no_std)]
#![deny(unsafe_code)]

#[cfg(not(loom))]
pub mod alternation;
#[macro_use]
pub mod arch;
pub mod clock;
pub mod cmdline;
pub mod cpu;
pub mod exception;
pub mod frame;
pub mod frames;
pub mod initial_stack;
#[cfg(all(any(test, fuzzing), not(loom)))]
pub mod laws;
pub mod layout;
pub mod line;
pub mod online;
pub mod program;
pub mod repeat;
#[cfg(not(loom))]
pub mod run;
pub mod selectors;
pub mod sync;
#[cfg(not(loom))]
pub mod syscall;
pub mod sysret;
pub mod text;
pub mod topology;
pub mod user_slice;
