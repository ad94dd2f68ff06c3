//! Bring-up: of the running CPU, and of the other CPUs by the BSP.

pub mod bring_up;
pub mod this_cpu;
pub mod tsc_sync;
