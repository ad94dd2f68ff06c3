//! A program on a CPU: found, started, ended; and the idle loop, where there is none.

pub mod idle;
pub mod programs;
pub mod ring3;
