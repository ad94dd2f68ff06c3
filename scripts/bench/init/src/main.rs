//! The init process of the Linux kernel that `cargo xtask bench --peer linux` compares with. It makes the same
//! measurements as the ring-3 programs `bench` and `scaling` of Ringside, prints them with the same labels, and restarts
//! the machine.
//!
//! The words of the kernel's command line after `--` are arguments: `exact` measures instructions, `scaling CPUS`
//! measures calls a second.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[allow(clippy::disallowed_macros, reason = "this program is not part of the host tool")]
fn main() {
    eprintln!("linux_init is the init process of a virtual machine: cargo xtask bench --peer linux");
    std::process::exit(1);
}

#[cfg(target_os = "none")]
mod linux;
