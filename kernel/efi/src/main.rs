//! The UEFI loader: an application that carries the kernel's ELF file, loads it and starts it. `docs/boot.md` describes
//! its steps in order.
#![cfg_attr(target_os = "uefi", no_std, no_main)]

#[cfg(not(target_os = "uefi"))]
fn main() {
    eprintln!("this is a UEFI application: run it with `./scripts/run.sh --boot uefi`");
    std::process::exit(1);
}

/// The kernel's ELF file, without its symbols.
#[cfg(target_os = "uefi")]
const KERNEL: &[u8] = include_bytes!(env!(
    "RINGSIDE_KERNEL",
    "build the loader with `./scripts/run.sh --boot uefi`, which builds the kernel first"
));

/// Starts the kernel, or reports why it cannot be started.
#[cfg(target_os = "uefi")]
#[uefi::entry]
fn main() -> uefi::Status {
    let Err(error) = kernel_efi::load::start(KERNEL);
    kernel_efi::load::report(&error);
    error.status()
}
