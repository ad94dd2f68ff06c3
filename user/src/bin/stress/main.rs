//! Makes a seeded random mix of system calls on every CPU and checks each: --mix, --calls, --seconds, --seed.
//!
//! ```text
//! --mix null=40,ticks=20,clock=10,write=10,cpu=10,trace=5,bad=5   weights, whole numbers; a missing kind is 0
//! --calls N      calls of the mix on each CPU; default 20000
//! --seconds S    ends the mix after S seconds of SYS_CLOCK_NS; with --calls too, at whichever limit comes first
//! --seed X       decimal or 0x hexadecimal; default 1. Each CPU derives its own random stream from it
//! ```
//!
//! The copies wait for each other before they begin. Every system call goes through `stub`, which checks all
//! registers; `model` decides which results are possible. A copy prints:
//!
//! - The lines of `lines`, numbered from 0, each a function of seed, CPU and number. They are what `write` writes.
//! - At the first difference `stress: VIOLATION cpu=K call=I number=N: expected .. got ..`: the Ith `syscall`
//!   instruction of this copy, counted from 1, and rax at it. The mix ends there, possibly in the middle of a line.
//! - Last `stress: seed=0xX calls=N lines=L counts=C0,..,C15,OTHER`: calls of the mix, complete lines written, and
//!   every `syscall` instruction that the copy executes, by number, including those that print this line and the
//!   final `SYS_EXIT`; OTHER counts the numbers from 16. They equal the kernel's counts for this CPU exactly.
//!
//! Exit codes: 0 success; 1 the other copies did not arrive; 2 invalid arguments; 3 a violation.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod bad;
mod caller;
mod lines;
mod load;
mod mix;
mod model;
mod options;
mod patterns;
mod report;
mod stub;
mod vectors;
mod violation;

use user::{ExitCode, args, println, sys};

use crate::caller::Stop;
use crate::load::Load;
use crate::options::{Options, USAGE};

user::program!(run);

/// Exit code if a result or a register differs from what the model or the ABI allows.
const VIOLATION: ExitCode = ExitCode(3);

fn run() -> ExitCode {
    let options = match Options::parse(args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            println!("stress: {error}");
            println!("{USAGE}");
            return ExitCode::USAGE;
        }
    };
    let mut load = Load::new(&options, sys::get_cpu());
    let result = load.run(&options);
    load.report(options.seed);
    match result {
        _ if load.found_violation() => VIOLATION,
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Violation) => VIOLATION,
        Err(Stop::RendezvousTimeout) => ExitCode::FAILURE,
    }
}
