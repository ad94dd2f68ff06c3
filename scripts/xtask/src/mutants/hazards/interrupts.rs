//! Hazards of interrupts, NMI and the other exceptions with a stack of their own, and the kernel's own failures.

use super::{Hazard, row};

/// The rows.
pub const INTERRUPTS: &[Hazard] = &[
    row(
        "NMI, #DB or #MC in front of the entry's `swapgs`, or behind the exit's",
        "their common entry asks neither CS nor the base's sign: it saves the GS base, sets it, puts it back",
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
        "an NMI inside of the NMI's handler: any `iretq` unmasks them, and the stack is in use",
        "the handler does not fault, so that its own `iretq` is the first",
        &["guard::nested-nmi-*", "inject::nmi"],
        &["nmi-unmasked"],
        "",
    ),
    row(
        "an NMI in the middle of an event of the trace: a record lost, a place given twice, a drop never told",
        "a place is taken, a drop counted and told in one instruction each",
        &["kernel: arch::trace::nmi_tests::an_nmi_at_any_instruction_loses_nothing_untold", "trace::*"],
        &["trace-place-in-two-steps", "trace-drop-untold"],
        "on the host, whose single-stepping stands for the NMI",
    ),
    row(
        "TSS, GDT, IST or stack shared by two CPUs",
        "an area for each CPU; the CPU's own registers are followed to it before a program and behind it",
        &["machine::dump-cpus-*", "panic::double-fault-on-two-cpus-at-once", "program::hello-on-every-cpu"],
        &["syscall-stack-shared", "rsp0-shared", "ist-shared"],
        "",
    ),
    row(
        "a kernel stack that overflows, in whatever context",
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
        "no program can make it fault; `inject` writes a CS that does not exist into the frame",
    ),
    row(
        "end of interrupt missing, doubled, or sent for a spurious one",
        "one each, in one place",
        &["machine::smp-1"],
        &["eoi-missing", "eoi-doubled"],
        "ring 0 has interrupts off, so an end too many ends nothing",
    ),
    row(
        "a panic while other CPUs run on, or one of them has the console",
        "one CPU tells; it stops the others by NMI and breaks the console's lock open; without GS it \
         knows itself by its stack",
        &["panic::in-*", "panic::while-all-write", "panic::on-cpu-*"],
        &["panic-alone", "console-kept-locked", "teller-by-gs-alone"],
        "",
    ),
    row(
        "a machine check",
        "CR4.MCE, and a report with CPU, bank, status and address. The kernel does not try to go on",
        &["machine-check::*", "inject::machine-check"],
        &["mce-off"],
        "",
    ),
    row(
        "a wake-up that an NMI between `sti` and `hlt` makes the CPU sleep through",
        "the NMI goes on behind the `hlt`",
        &["kernel: arch::task::idle::tests::an_nmi_in_front_of_the_halt_goes_on_behind_it", "inject::nmi"],
        &["idle-halts-after-nmi"],
        "",
    ),
];
