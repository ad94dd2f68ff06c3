//! The kernel binary. `init` is the boot sequence, from the assembly boot code to the first program.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a kernel: run it with `cargo xtask run`, or test its library with `cargo test`");
    std::process::exit(1);
}

#[cfg(target_os = "none")]
mod init;
