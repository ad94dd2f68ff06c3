//! The virtual machine: builds the kernel, starts it under QEMU, reads its console and monitor, and determines the
//! outcome of the run.
//!
//! The outcome depends on both QEMU's exit status *and* the kernel's completion records ([`verify`]).
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests write their own files, and a failed write fails the test"
    )
)]

pub mod archive;
mod bare;
pub mod bochs;
pub mod build;
pub mod cargo;
pub mod cmdline;
pub mod code;
pub mod console;
pub mod cpu_state;
pub mod directory;
pub mod error;
pub mod executable;
pub mod facts;
mod fold;
pub mod guest_memory;
pub mod image;
pub mod iso;
pub mod launch;
pub mod limits;
pub mod monitor;
pub mod options;
pub mod programs;
pub mod qemu;
pub mod qmp;
pub mod quoting;
pub mod replay;
pub mod report;
pub mod rip;
pub mod serial_ports;
pub mod session;
pub mod symbols;
pub mod toolchain;
pub mod traced;
pub mod tree;
pub mod uefi;
pub mod verify;
