//! What a CPU runs: finding, starting and ending a program, and the idle loop.

pub mod idle;
pub mod programs;
pub mod ring3;
