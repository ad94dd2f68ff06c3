//! Makes a seeded random mix of system calls on every CPU and checks each: --mix, --calls, --seconds, --seed.
//!
//! ```text
//! --mix null=40,ticks=20,clock=10,write=10,cpu=10,trace=5,bad=5   weights, whole numbers; what is left out is 0
//! --calls N      calls of the mix on each CPU; 20000 unless told otherwise
//! --seconds S    ends the mix after so long by SYS_CLOCK_NS; with --calls too, whichever comes first
//! --seed X       decimal or 0x hexadecimal; 1 unless told otherwise. Each CPU makes a stream of its own of it
//! ```
//!
//! The copies wait for each other before they begin. Every system call goes through `stub`, which watches all
//! registers; `model` knows what may come back. What a copy prints:
//!
//! - The lines of `lines`, numbered from 0, each a function of seed, CPU and number. They are what `write` writes.
//! - On the first difference `stress: VIOLATION cpu=K call=I number=N: expected .. got ..`: the Ith `syscall`
//!   instruction of this copy, counted from 1, and rax at it. The mix ends there, in the middle of a line perhaps.
//! - Last `stress: seed=0xX calls=N lines=L counts=C0,..,C15,OTHER`: calls of the mix, whole lines written, and
//!   every `syscall` instruction that the copy executes, by number, those for this very line and for `SYS_EXIT`
//!   included; OTHER are the numbers from 16. So they are the kernel's counts for this CPU, to the last call.
//!
//! Exit codes: 0 all went well; 1 the other copies did not come; 2 the arguments make no sense; 3 a violation.
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

/// Something came out otherwise than the model or the ABI allows.
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
        Err(Stop::Alone) => ExitCode::FAILURE,
    }
}
