//! Runs a program once on all CPUs: on the terminal ([`run`]) or with gdb attached ([`gdb`]).
#![forbid(unsafe_code)]

pub mod bochs;
pub mod gdb;
pub mod images;
mod many_cpus;
pub mod options;
mod qemu_text;
pub mod recording;
pub mod run;
pub mod screen;
pub mod tool;
