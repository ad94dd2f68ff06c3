//! Runs a program on all CPUs once: on the terminal ([`run`]), with gdb attached ([`gdb`]), or measured ([`bench`]).
#![forbid(unsafe_code)]

pub mod bench;
pub mod gdb;
pub mod options;
pub mod recording;
pub mod run;
pub mod screen;
