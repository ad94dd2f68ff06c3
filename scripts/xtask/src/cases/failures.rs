//! Cases with kernel failures, injected in each context in which the kernel runs. The kernel must report the CPU and
//! the cause, and must end the run with a failure verdict instead of a reset or a hang.

use super::{Case, case};

/// A kind of failure: the key on the kernel's command line, and the expected report. In the report, `{cpu}` is replaced
/// by the failing CPU, and `{stack}` by the overflowed stack.
struct Kind {
    name: &'static str,
    key: &'static str,
    report: &'static str,
}

const PANIC: Kind =
    Kind { name: "in", key: "panic_cpu", report: "requested by panic_cpu={cpu} on the command line" };
const OVERFLOW: Kind = Kind {
    name: "overflow-in",
    key: "overflow_cpu",
    report: "double fault (#DF): the {stack} stack of CPU {cpu} overflowed",
};
const DOUBLE_FAULT: Kind =
    Kind { name: "double-fault-in", key: "double_fault_cpu", report: "double fault (#DF) in ring 0" };

/// The contexts in which a CPU can fail, and the programs that reach them.
const PLACES: [(&str, &str); 6] = [
    ("start", "hello"),
    ("bring-up", "hello"),
    ("syscall", "hello"),
    // A tick in ring 3.
    ("tick", "spin"),
    ("nmi", "hello"),
    ("idle", "hello"),
];

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let everywhere = PLACES.iter().flat_map(|&(place, program)| {
        [(&PANIC, 1, 0), (&PANIC, 8, 5), (&OVERFLOW, 1, 0), (&OVERFLOW, 8, 5), (&DOUBLE_FAULT, 8, 2)]
            .into_iter()
            // In these cases bring-up fails on CPU 0. Failures in the bring-up of an AP have separate cases below.
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
    everywhere.chain(consoles).chain(others).chain([two_at_once(), second_panic()]).collect()
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

/// A double fault on two CPUs at the same time. Each CPU has its own #DF stack, so the panicking CPU reports its own
/// fault. The other CPU reports nothing.
fn two_at_once() -> Case {
    case(
        "panic::double-fault-on-two-cpus-at-once",
        "--smp 8 --cmdline 'overflow_cpu=2 double_fault_cpu=5'",
        "hello",
    )
    .status(3)
    .demand(one_panic)
    .demand(|finished| {
        let reports = [
            "CPU 2 panicked: double fault (#DF): the syscall stack of CPU 2 overflowed",
            "CPU 5 panicked: double fault (#DF) in ring 0",
        ];
        let reported = reports.iter().filter(|report| finished.stderr.contains(**report)).count();
        super::expect(reported, 1, "correct reports")
    })
}

/// A CPU panics while another CPU reports a panic. It parks, and the NMI of the reporting CPU wakes it again. It must
/// count as one stopped CPU, not as two. The third CPU holds the console's lock with NMIs masked. `--icount` makes QEMU
/// run the CPUs in turn, so the order of events does not depend on the host.
fn second_panic() -> Case {
    case("panic::second-panic", "--icount --smp 3 --cmdline 'panic_cpu=0 fail_in=second-panic'", "hello")
        .status(3)
        .complains("CPU 0 panicked: requested by panic_cpu=0 on the command line")
        .shows("[cpu1] ringside: this CPU held the console's lock for the full time")
        .demand(one_panic)
}

/// Checks that the panic of one CPU is the only error of the run.
fn one_panic(finished: &super::Finished) -> Result<(), String> {
    let errors = finished.json["errors"].as_array().map_or(0, Vec::len);
    super::expect(errors, 1, "errors")
}
