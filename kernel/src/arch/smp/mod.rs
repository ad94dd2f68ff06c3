//! CPU bring-up: each CPU sets itself up, and the BSP starts the others.

pub mod bring_up;
pub mod this_cpu;
pub mod tsc_sync;
