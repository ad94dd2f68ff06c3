//! The runtime of ring-3 programs: start code, system calls, printing, arguments, and the page that all copies of a
//! program share. A program has no allocator and no `std`. Each CPU runs one copy of the program, with one thread in
//! its own address space.
//!
//! ```ignore
//! //! greets: prints a greeting.
//! #![cfg_attr(target_os = "none", no_std, no_main)]
//! use user::{ExitCode, println, sys};
//!
//! user::program!(run);
//!
//! fn run() -> ExitCode {
//!     println!("good day from cpu {}", sys::get_cpu());
//!     ExitCode::SUCCESS
//! }
//! ```
//!
//! All code also compiles for the host, so that clippy and rust-analyzer check all of it and host tests cover the pure
//! functions. On the host a program only prints how to run it.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod args;
mod exit;
pub mod fpu;
#[cfg(target_os = "none")]
mod panic;
pub mod patterns;
pub mod print;
pub mod registers;
mod shared;
pub mod start;
pub mod sys;
pub mod tsc;

pub use args::args;
pub use exit::ExitCode;
pub use shared::{SharedPage, shared_page};

/// Makes a function (`fn() -> ExitCode`) the program's body. Invoke it once per program, in the crate root.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        /// The function that the runtime's start code calls.
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        fn ringside_program() -> $crate::ExitCode {
            $run()
        }

        #[cfg(not(target_os = "none"))]
        fn main() -> ::std::process::ExitCode {
            // Referenced so that the compiler does not report the entire program as dead code.
            let _: fn() -> $crate::ExitCode = $run;
            ::std::eprintln!(
                "{} is a ring-3 program of Ringside: scripts/run.sh {0}",
                ::core::env!("CARGO_BIN_NAME")
            );
            ::std::process::ExitCode::FAILURE
        }
    };
}
