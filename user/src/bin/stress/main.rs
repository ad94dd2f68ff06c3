//! Makes a seeded random mix of system calls and checks each one: [--mix M] [--calls N] [--seconds S] [--seed X].
//!
//! ```text
//! --mix null=40,ticks=20,clock=10,write=10,cpu=10,trace=5,bad=5   integer weights; a kind not listed has weight 0
//! --calls N      number of calls on each CPU; default 20000
//! --seconds S    time limit, by SYS_CLOCK_NS; with --calls, the limit reached first ends the mix
//! --seed X       decimal, or hexadecimal with 0x; default 1. Each CPU derives its own random stream from it
//! ```
//!
//! The copies wait for each other before they begin. Module `stub` makes every system call and checks all registers.
//! Module `model` decides which results are possible. A copy prints:
//!
//! - The lines that the kind `write` writes (module `lines`), numbered from 0. Each is a function of the seed, the CPU
//!   and the line's number.
//! - At the first difference, `stress: VIOLATION cpu=K call=I number=N: expected .. got ..`. I is the index of the
//!   `syscall` instruction in this copy, counted from 1, and N is its rax. The mix ends there, possibly in the middle
//!   of a line.
//! - At the end, `stress: seed=0xX calls=N lines=L counts=C0,..,C15,OTHER`: the number of calls from the mix, the number
//!   of complete lines written, and the number of executed `syscall` instructions for each system-call number. OTHER
//!   counts all numbers from 16 up. The counts include the calls that print this line and the final `SYS_EXIT`, and
//!   they equal the kernel's counts for this CPU exactly.
//!
//! Exit codes: 0, success; 1, the other copies did not arrive; 2, invalid arguments; 3, a violation.
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
