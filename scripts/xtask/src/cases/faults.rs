//! Programs that do what they must not: CPU 1 of 4 does it and is killed, the others run to their end.

use super::{Case, case};

/// What is done, and the vector that the reason has to name, with the error code where it says whose page it was
/// (SDM 3A, 4.7): bit 0, the page is there; 1, a write; 2, in ring 3; 4, an instruction.
const DEEDS: [(&str, &str); 23] = [
    ("div0", "#DE"),
    ("ud2", "#UD"),
    ("int3", "#BP"),
    ("tf", "#DB"),
    ("null", "#PF), error code 0x4"),
    ("kernel-read", "#PF), error code 0x5"),
    ("kernel-write", "#PF), error code 0x7"),
    ("kernel-jump", "#PF"),
    ("text-write", "#PF), error code 0x7"),
    ("stack-execute", "#PF), error code 0x15"),
    ("stack", "#PF"),
    ("noreturn-sp", "#PF"),
    ("gp", "#GP"),
    ("hlt", "#GP"),
    ("cli", "#GP"),
    ("in", "#GP"),
    ("out", "#GP"),
    ("rdmsr", "#GP"),
    ("wrmsr", "#GP"),
    ("mov-cr", "#GP"),
    // #GP with Intel's semantics, #UD with AMD's.
    ("sysenter", ""),
    ("int80", "#GP"),
    ("int-timer", "#GP"),
];

/// Stack pointers with which a program makes its calls, while NMIs come: nobody is hurt.
const STACK_POINTERS: [&str; 3] = ["rsp-zero", "rsp-kernel", "rsp-noncanonical"];

/// The cases.
pub fn cases() -> Vec<Case> {
    let row = |(deed, vector): (&str, &str)| {
        case(format!("fault::{deed}"), "--smp 4", &format!("fault {deed} 1"))
            .status(1)
            .exits_on(3)
            .killed_on(1, vector)
            .demand(|finished| super::expect(finished.cpu(1)?["outcome"].as_str(), Some("killed"), "CPU 1"))
            .shows("fault: cpu 3 ran on")
            // Ring 0 takes no trap that was meant for ring 3.
            .hides("#DB in ring 0")
    };
    let all = case("fault::on-every-cpu-at-once", "--smp 4", "fault div0").status(1).killed_on(4, "#DE");
    let harmless = |deed: &str| {
        let options = "--smp 4 --tick-hz 1000 --cmdline nmi_storm=1000";
        case(format!("fault::{deed}"), options, &format!("fault {deed}")).exits_on(4)
    };
    DEEDS.into_iter().map(row).chain([all]).chain(STACK_POINTERS.map(harmless)).collect()
}
