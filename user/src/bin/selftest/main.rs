//! Checks everything that the kernel guarantees to ring 3, on every CPU at the same time.
//!
//! A check that passes prints nothing. A check that fails prints the expected and the actual value and ends this copy
//! with the check's own exit code (see [`CHECKS`]).
#![cfg_attr(target_os = "none", no_std, no_main)]

mod cpus;
mod entry;
mod numbers;
mod pointers;
mod preserved;
mod time;

use core::fmt;

use kernel_abi::layout::STACK_TOP;
use user::{ExitCode, args, println, sys};

user::program!(run);

/// A check has failed and has printed the reason.
#[derive(Debug)]
struct Failed;

/// The result of a check.
type Verdict = Result<(), Failed>;

/// The checks in execution order, each with the exit code for its failure. The checks that wait for other CPUs come
/// first, so that a copy that fails later leaves no other copy waiting.
const CHECKS: [(i32, fn() -> Verdict); 20] = [
    (10, initial_stack),
    (28, entry::registers_are_zero),
    (11, cpus::number_is_constant),
    (12, cpus::number_is_claimed_once),
    (13, cpus::all_in_ring_3_at_once),
    (14, cpus::memory_is_private),
    (29, cpus::number_is_in_tsc_aux),
    (15, numbers::null_and_trace_return_0),
    (16, numbers::unknown_numbers_are_enosys),
    (17, pointers::a_line_in_pieces),
    (18, pointers::an_empty_range_is_0),
    (19, pointers::bad_ranges_are_efault),
    (20, pointers::a_partly_mapped_range),
    (21, preserved::over_system_calls),
    (22, preserved::over_unknown_numbers),
    (23, preserved::over_failing_copies),
    (24, preserved::over_ticks),
    (25, time::ticks_grow),
    (26, time::clock_is_monotonic),
    (27, time::tsc_is_readable),
];

fn run() -> ExitCode {
    for (code, check) in CHECKS {
        if check().is_err() {
            return ExitCode(code);
        }
    }
    println!(
        "selftest: {} checks passed; {} CPUs were in ring 3 at the same time",
        CHECKS.len(),
        sys::cpu_count()
    );
    ExitCode::SUCCESS
}

/// Compares two values and reports a difference. `what` names the value.
fn expect<T: PartialEq + fmt::Debug>(what: fmt::Arguments<'_>, expected: &T, got: &T) -> Verdict {
    if expected == got {
        return Ok(());
    }
    // Do not use `#x?`: it would print a vector register on four lines.
    println!("selftest: FAILED: {what}: expected {expected:x?}, got {got:x?} (hexadecimal)");
    Err(Failed)
}

/// Checks that the program has a name, and that the auxiliary vector ends before the stack does.
fn initial_stack() -> Verdict {
    expect(format_args!("argc is at least 1"), &true, &(args().len() >= 1))?;
    let name = args().next().unwrap_or_default();
    expect(format_args!("argv[0] is empty"), &false, &name.is_empty())?;
    let top = STACK_TOP as usize;
    expect(format_args!("argv[0] is on the stack"), &true, &(name.as_ptr() as usize + name.len() < top))?;
    // A stack has room for fewer than 4096 pairs. Without AT_NULL the read faults at the unmapped page above the stack.
    expect(format_args!("the auxiliary vector ends"), &true, &(args::auxiliary_vector().count() < 4096))
}
