//! CPU bring-up: each CPU sets itself up, and the BSP starts the others.

mod arrivals;
pub mod bring_up;
mod clocks;
pub mod cycle;
pub mod error;
pub mod this_cpu;
mod trampoline;
pub mod tsc_sync;
mod uarts;
