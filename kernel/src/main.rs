//! The kernel: the way up from the boot code to the first program, one step a line.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a kernel: run it with `cargo xtask run`, or test its library with `cargo test`");
    std::process::exit(1);
}

#[cfg(target_os = "none")]
mod ladder;
