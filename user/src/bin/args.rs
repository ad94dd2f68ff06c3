//! Prints its arguments, one per line.
#![cfg_attr(target_os = "none", no_std, no_main)]

use user::{ExitCode, args, println};

user::program!(run);

fn run() -> ExitCode {
    println!("argc={}", args().len());
    for (index, argument) in args().enumerate() {
        println!("argv[{index}]=<{}>", argument.escape_ascii());
    }
    ExitCode::SUCCESS
}
