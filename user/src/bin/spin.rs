//! Loops for ever in ring 3, without system calls after its first line.
#![cfg_attr(target_os = "none", no_std, no_main)]

use user::{ExitCode, println, sys};

user::program!(run);

fn run() -> ExitCode {
    println!("spinning on cpu {}", sys::get_cpu());
    loop {
        core::hint::spin_loop();
    }
}
