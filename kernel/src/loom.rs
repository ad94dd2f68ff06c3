//! The root of the crate `kernel_loom` (`kernel/loom`): the modules that have loom tests, built with loom's atomics instead
//! of those of `core`, and the modules that they import.
#![cfg(test)]
#![forbid(unsafe_code)]

pub mod features;
pub mod online;
pub mod sync;
pub mod tick_work;
pub mod turns;
