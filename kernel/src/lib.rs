//! The kernel library.
#![cfg_attr(not(test), no_std)]

pub mod clock;
pub mod cmdline;
pub mod cpu;
pub mod frames;
pub mod initial_stack;
pub mod layout;
pub mod line;
pub mod online;
pub mod program;
pub mod sync;
pub mod sysret;
pub mod topology;
pub mod user_slice;
