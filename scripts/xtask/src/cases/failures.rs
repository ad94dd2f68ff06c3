//! The kernel fails on purpose, in every context that it has: each time a report that names the CPU and the cause, and
//! the verdict for a failure; never a reset, never a hang.

use super::{Case, case};

/// A kind of failure: the command line's key, and what the report says, the stack that overflowed at `{stack}` and the
/// CPU at `{cpu}`.
struct Kind {
    name: &'static str,
    key: &'static str,
    report: &'static str,
}

const PANIC: Kind =
    Kind { name: "in", key: "panic_cpu", report: "panic_cpu={cpu} on the command line asked for this" };
const OVERFLOW: Kind = Kind {
    name: "overflow-in",
    key: "overflow_cpu",
    report: "double fault (#DF): the {stack} stack of CPU {cpu} overflowed",
};
const DOUBLE_FAULT: Kind =
    Kind { name: "double-fault-in", key: "double_fault_cpu", report: "double fault (#DF) in ring 0" };

/// Where a CPU can fail, and the program that brings it there.
const PLACES: [(&str, &str); 6] = [
    ("start", "hello"),
    ("bring-up", "hello"),
    ("syscall", "hello"),
    // A tick that strikes in ring 3.
    ("tick", "spin"),
    ("nmi", "hello"),
    ("idle", "hello"),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let everywhere = PLACES.iter().flat_map(|&(place, program)| {
        [(&PANIC, 1, 0), (&PANIC, 8, 5), (&OVERFLOW, 1, 0), (&OVERFLOW, 8, 5), (&DOUBLE_FAULT, 8, 2)]
            .into_iter()
            // CPU 0 of several is brought up as CPU 0 of one is; the others have cases of their own below.
            .map(move |(kind, smp, cpu)| {
                (kind, place, program, smp, if place == "bring-up" { 0 } else { cpu })
            })
    });
    let everywhere = everywhere.map(|(kind, place, program, smp, cpu)| {
        failing(format!("panic::{}-{place}-smp-{smp}", kind.name), kind, place, smp, cpu, program)
    });
    let consoles = [(1, 0, "console"), (8, 5, "console"), (8, 5, "console-held")].map(|(smp, cpu, place)| {
        failing(format!("panic::in-{place}-smp-{smp}"), &PANIC, place, smp, cpu, "hello")
    });
    let others = [&PANIC, &OVERFLOW, &DOUBLE_FAULT].map(|kind| {
        failing(format!("panic::{}-bring-up-of-an-ap", kind.name), kind, "bring-up", 8, 3, "hello")
    });
    everywhere.chain(consoles).chain(others).chain([two_at_once()]).collect()
}

fn failing(name: String, kind: &Kind, place: &str, smp: u32, cpu: u32, program: &str) -> Case {
    let stack = if place == "nmi" { "NMI" } else { "syscall" };
    let report = kind.report.replace("{cpu}", &cpu.to_string()).replace("{stack}", stack);
    let options = format!("--smp {smp} --cmdline '{}={cpu} fail_in={place}'", kind.key);
    case(name, &options, program)
        .status(3)
        .complains(format!("CPU {cpu} panicked: {report}"))
        .demand(one_panic)
}

/// Two CPUs lose their stacks behind the same gate. Each #DF has a stack of its own, so the one that tells knows its own
/// story, and the other is silent.
fn two_at_once() -> Case {
    case(
        "panic::double-fault-on-two-cpus-at-once",
        "--smp 8 --cmdline 'overflow_cpu=2 double_fault_cpu=5'",
        "hello",
    )
    .status(3)
    .demand(one_panic)
    .demand(|finished| {
        let stories = [
            "CPU 2 panicked: double fault (#DF): the syscall stack of CPU 2 overflowed",
            "CPU 5 panicked: double fault (#DF) in ring 0",
        ];
        let told = stories.iter().filter(|story| finished.stderr.contains(**story)).count();
        super::expect(told, 1, "true stories")
    })
}

/// One CPU tells, and nothing else is wrong with the run.
fn one_panic(finished: &super::Finished) -> Result<(), String> {
    let errors = finished.json["errors"].as_array().map_or(0, Vec::len);
    super::expect(errors, 1, "errors")
}
