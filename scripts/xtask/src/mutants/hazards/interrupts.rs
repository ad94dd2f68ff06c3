//! Hazards of interrupts, NMI and the other exceptions with a stack of their own, and the kernel's own failures.

use super::{Hazard, row};

/// The rows.
pub const INTERRUPTS: &[Hazard] = &[
    row(
        "NMI, #DB or #MC before the entry's `swapgs`, or after the exit's",
        "their common entry tests neither CS nor the base's sign: it saves the GS base, sets it and \
         restores it",
        &[
            "guard::nmis-at-every-instruction",
            "guard::gs-base-under-nmis",
            "program::selftest-under-ipis-and-nmis",
            "inject::nmi",
            "inject::debug",
            "inject::machine-check",
        ],
        &["paranoid-trusts-cs", "paranoid-gs-not-restored", "syscall-gs-not-restored"],
        "",
    ),
    row(
        "an NMI inside the NMI handler: any `iretq` unmasks NMIs, and the stack is in use",
        "the handler does not fault, so that its own `iretq` is the first",
        &["guard::nested-nmi-*", "inject::nmi"],
        &["nmi-unmasked"],
        "",
    ),
    row(
        "an NMI while a trace event is recorded: a record lost, a place assigned twice, a drop never \
         reported",
        "reserving a place, counting a drop and reporting it take one instruction each",
        &["kernel: arch::trace::nmi_tests::nmi_at_any_instruction_leaves_no_drop_unreported", "trace::*"],
        &["trace-reserve-non-atomic", "trace-drop-unreported"],
        "on the host, where single-stepping simulates the NMI",
    ),
    row(
        "TSS, GDT, IST or stack shared by two CPUs",
        "an area for each CPU; a check follows the CPU's registers to it before and after a program",
        &["machine::dump-cpus-*", "panic::double-fault-on-two-cpus-at-once", "program::hello-on-every-cpu"],
        &["syscall-stack-shared", "rsp0-shared", "ist-shared"],
        "",
    ),
    row(
        "a kernel stack overflow, in any context",
        "an unmapped page below each stack; #DF has its own; tables are loaded before anything else",
        &["panic::stack-overflow", "panic::overflow-in-*", "panic::double-fault-in-*"],
        &["double-fault-without-ist", "stack-without-guard", "tables-late"],
        "",
    ),
    row(
        "`iretq` faults on a bad frame",
        "frames for ring 3 are built by one function that checks them; the fault gets the kernel's GS \
         base and kills the program",
        &["inject::nmi"],
        &["iretq-fault-gs"],
        "no program can make it fault; `inject` writes a non-existent CS into the frame",
    ),
    row(
        "end of interrupt missing, sent twice, or sent for a spurious interrupt",
        "exactly one for each, sent in one place",
        &["machine::smp-1"],
        &["eoi-missing", "eoi-doubled"],
        "ring 0 has interrupts off, so an extra EOI has no effect",
    ),
    row(
        "a panic while other CPUs run, or while one of them holds the console's lock",
        "one CPU reports; it stops the others by NMI and bypasses the console's lock; without a GS base it \
         identifies itself by its stack",
        &["panic::in-*", "panic::while-all-write", "panic::on-cpu-*"],
        &["panic-alone", "console-kept-locked", "panic-cpu-by-gs-alone"],
        "",
    ),
    row(
        "a machine check",
        "CR4.MCE, and a report with CPU, bank, status and address. The kernel does not try to continue",
        &["machine-check::*", "inject::machine-check"],
        &["mce-off"],
        "",
    ),
    row(
        "a wake-up that is lost because of an NMI between `sti` and `hlt`",
        "the NMI resumes after the `hlt`",
        &["kernel: arch::task::idle::tests::nmi_at_hlt_resumes_after_it", "inject::nmi"],
        &["idle-halts-after-nmi"],
        "",
    ),
];
