//! Finds, starts and ends a CPU's program, and implements the idle loop.

pub mod idle;
pub mod programs;
pub mod ring3;
