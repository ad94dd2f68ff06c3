//! The CPU's own registers and tables: control registers, MSRs, GDT and TSS, time-stamp counter, machine-check banks.

pub mod control;
pub mod fpu;
pub mod gdt;
pub mod machine_check;
pub mod msr;
pub mod tsc;
