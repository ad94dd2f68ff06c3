//! Two measurements that need more than a program's output: the instructions that QEMU executes on a path into the kernel
//! and back, in order, and the time from QEMU's start to the first program.
#![forbid(unsafe_code)]

pub mod bare;
mod elf;
mod log;
pub mod path;
mod phase;
mod rows;
mod source;
pub mod start;
