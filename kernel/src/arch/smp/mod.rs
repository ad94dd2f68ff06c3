//! Bring-up: of the running CPU, and of all others.

pub mod bring_up;
pub mod this_cpu;
pub mod tsc_sync;
