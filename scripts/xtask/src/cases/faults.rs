//! Cases with programs that fault. On CPU 1 of 4 the program is killed; on the other CPUs it exits normally.

use super::{Case, case};

/// The arguments of `fault` and the exceptions that they raise. A page fault's error code identifies the access (SDM
/// 3A, 4.7): bit 0, page present; bit 1, write; bit 2, in ring 3; bit 4, instruction fetch.
const FAULTS: [(&str, &str); 25] = [
    ("div0", "#DE"),
    ("ud2", "#UD"),
    ("int3", "#BP"),
    ("tf", "#DB"),
    ("tf-null", "#UD"),
    ("tf-write", "#UD"),
    ("null", "#PF), error code 0x4"),
    ("kernel-read", "#PF), error code 0x5"),
    ("kernel-write", "#PF), error code 0x7"),
    ("kernel-jump", "#PF"),
    ("text-write", "#PF), error code 0x7"),
    ("stack-execute", "#PF), error code 0x15"),
    ("stack", "#PF"),
    ("push-at-rsp-zero", "#PF"),
    ("gp", "#GP"),
    ("hlt", "#GP"),
    ("cli", "#GP"),
    ("in", "#GP"),
    ("out", "#GP"),
    ("rdmsr", "#GP"),
    ("wrmsr", "#GP"),
    ("mov-cr", "#GP"),
    // #GP on Intel CPUs, #UD on AMD CPUs.
    ("sysenter", ""),
    ("int80", "#GP"),
    ("int-timer", "#GP"),
];

/// Stack pointers with which a program makes system calls during NMI stress. The program must not be killed.
const STACK_POINTERS: [&str; 3] = ["rsp-zero", "rsp-kernel", "rsp-noncanonical"];

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let row = |(kind, vector): (&str, &str)| {
        case(format!("fault::{kind}"), "--smp 4", &format!("fault {kind} 1"))
            .status(1)
            .exits_on(3)
            .killed_on(1, vector)
            .demand(|finished| super::expect(finished.cpu(1)?["outcome"].as_str(), Some("killed"), "CPU 1"))
            .shows("fault: cpu 3 ran to completion")
            // TF set by ring 3 must not raise #DB in ring 0.
            .hides("#DB in ring 0")
    };
    let all = case("fault::on-every-cpu-at-once", "--smp 4", "fault div0").status(1).killed_on(4, "#DE");
    let harmless = |kind: &str| {
        let options = "--smp 4 --tick-hz 1000 --cmdline nmi_storm=1000";
        case(format!("fault::{kind}"), options, &format!("fault {kind}")).exits_on(4)
    };
    FAULTS.into_iter().map(row).chain([all]).chain(STACK_POINTERS.map(harmless)).collect()
}
