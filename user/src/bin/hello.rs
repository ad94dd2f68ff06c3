//! Prints a line with the index of its CPU, followed by the arguments.
#![cfg_attr(target_os = "none", no_std, no_main)]

use user::{ExitCode, args, print, println, sys};

user::program!(run);

fn run() -> ExitCode {
    print!("hello from ring 3 on cpu {} of {}", sys::get_cpu(), sys::cpu_count());
    for argument in args().skip(1) {
        print!(" {}", argument.escape_ascii());
    }
    println!();
    ExitCode::SUCCESS
}
