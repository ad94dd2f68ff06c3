//! The hazards of the road between ring 3 and ring 0, each with its guard, the tests that show the guard at work, and the
//! mutants that lack it: the table of `docs/security.md`.

/// A row.
pub struct Hazard {
    /// What goes wrong.
    pub hazard: &'static str,
    /// What stands against it.
    pub guard: &'static str,
    /// Cases and checks of the suite, with `*` at the end for all that begin so; and tests on the host, as
    /// `crate: module::tests::name`.
    pub shown: &'static [&'static str],
    /// Mutants by name.
    pub mutants: &'static [&'static str],
    /// What is to be said besides: why something is not shown, or what shows it elsewhere.
    pub note: &'static str,
}

/// A part of the table: its heading, and its rows.
pub type Part = (&'static str, &'static [Hazard]);

/// All of it, in the order of the road.
pub const HAZARDS: [Part; 3] = [
    ("System calls", SYSTEM_CALLS),
    ("Interrupts, NMI and IST", INTERRUPTS),
    ("Bring-up and time", BRING_UP),
];

const fn row(
    hazard: &'static str,
    guard: &'static str,
    shown: &'static [&'static str],
    mutants: &'static [&'static str],
    note: &'static str,
) -> Hazard {
    Hazard { hazard, guard, shown, mutants, note }
}

const SYSTEM_CALLS: &[Hazard] = &[
    row(
        "`sysretq` to an RIP that is not canonical: #GP in ring 0 on ring 3's stack (CVE-2012-0217)",
        "`may_sysret` asks RIP and flags; the last page below the hole cannot be mapped",
        &[
            "kernel: sysret::tests::an_rip_that_is_not_ring_3s_does_not",
            "kernel: sysret::tests::agrees_with_the_conditions_one_by_one",
            "kernel: program::tests::segments_that_lie_in_the_wrong_place",
            "elf::in-kernel-half",
            "elf::wrapping",
        ],
        &["sysret-any-rip", "sysret-any-flags"],
        "on the host: two guards in a row, of which no program gets past the first; and only Intel's semantics, in QEMU from 10.0.13 on, would fault",
    ),
    row(
        "ring 3's flags in force in ring 0: IF, TF, DF, AC, NT, IOPL",
        "SFMASK; `cld` and `clac` on the ways in by IDT; FLAGS are looked at on every entry in the `checking` build",
        &[
            "guard::flags-exit",
            "guard::flags-fault",
            "guard::flags-debug",
            "guard::step-nested",
            "guard::checked-at-every-call",
            "hostile::*",
            "kernel: arch::msr::tests::syscall_clears_each_of_the_flags",
        ],
        &[
            "sfmask-if",
            "sfmask-df",
            "sfmask-ac",
            "trap-without-cld",
            "trap-without-clac",
            "paranoid-without-cld",
            "paranoid-without-clac",
        ],
        "",
    ),
    row(
        "single-stepping or NT over `syscall`; #DB at the entry's first instruction (XSA-204)",
        "SFMASK clears TF and NT, so that no #DB comes there; #DB has a stack of its own, is cleared and returned",
        &["fault::tf", "guard::step-nested", "guard::flags-debug", "hostile::*"],
        &["sfmask-tf", "sfmask-nt", "debug-without-ist"],
        "without TF in SFMASK the #DB does come at that instruction, and the run still goes on behind it",
    ),
    row(
        "a hostile stack pointer before the switch of stacks",
        "no memory is touched through it; NMI, #DB, #MC and #DF have stacks of their own",
        &["fault::rsp-*", "guard::nmis-at-every-instruction", "hostile::*"],
        &["nmi-without-ist", "debug-without-ist"],
        "",
    ),
    row(
        "a system call's number beyond the table",
        "one unsigned comparison, and a mask behind it",
        &["machine::smp-1", "stress::calls-agree-to-the-last", "hostile::*"],
        &["syscall-number-unchecked", "syscall-index-unmasked"],
        "the mask works on what a CPU does ahead of the branch: no emulator shows it",
    ),
    row(
        "registers lost or leaked over calls, ticks and starts",
        "all come back but rax, rcx, r11; all are zero at a start",
        &["machine::*", "stress::calls-agree-*", "hostile::*"],
        &["syscall-register-lost", "trap-register-lost", "start-register-leaked", "start-segments-leaked"],
        "",
    ),
    row(
        "ring 3's x87 and SSE state changed or leaked",
        "the kernel is soft-float; the FPU is reset at a start; an x87 error is an exception (CR0.NE)",
        &["check::soft-float", "machine::*", "hostile::*"],
        &["tick-uses-xmm", "start-fpu-leaked", "x87-errors-external"],
        "",
    ),
    row(
        "STAR without RPL 3: SS with RPL 0 on AMD",
        "an assertion at compile time; every MSR of the road is read back on every CPU",
        &["kernel: arch::msr::tests::a_value_that_does_not_hold_is_named", "machine::dump-cpus-*"],
        &["star-rpl", "msr-not-compared"],
        "",
    ),
    row(
        "other doors: `int n`, `sysenter`, a 32-bit `syscall`, the LDT",
        "gates closed to ring 3 but #BP and #OF; SYSENTER_CS and CSTAR are 0; no 32-bit code segment; no LDT",
        &[
            "fault::sysenter",
            "guard::sysenter-of-intel",
            "fault::int80",
            "fault::int-timer",
            "guard::ldt",
            "hostile::*",
        ],
        &["sysenter-open", "gate-open", "ldt-as-at-reset"],
        "",
    ),
    row(
        "pointers from ring 3: null, the kernel's, not canonical, wrapping, unmapped in the middle",
        "a range check in one place; one copy that recovers from its fault; then only the copy is used",
        &["machine::*", "kernel: user_slice::tests::ranges_at_the_borders", "check::fuzz", "hostile::*"],
        &["user-range-unchecked", "copy-without-fixup"],
        "",
    ),
    row(
        "AC left set behind a copy: ring 3's memory open to ring 0",
        "`clac` on every way out of the copy, the fault's included; SMAP",
        &["guard::checked-at-every-call", "guard::read-user", "guard::run-user"],
        &["copy-leaves-ac", "smap-off", "smep-off"],
        "",
    ),
    row(
        "privileged instructions in ring 3",
        "IOPL 0, no I/O permission map, UMIP, PCE and FSGSBASE off. TSD is off by choice: `rdtsc` is open",
        &["fault::*", "guard::s*", "guard::rdpmc", "guard::wrgsbase", "hostile::*"],
        &["io-map-open", "umip-off", "pce-on", "fsgsbase-on"],
        "",
    ),
    row(
        "ring 3 reaches the kernel's half, or writes what it runs",
        "no page of that half is ring 3's; a walk over the kernel's mappings at boot and over each program's before its start",
        &[
            "fault::kernel-*",
            "fault::text-write",
            "fault::stack-execute",
            "hostile::*",
            "machine::no-page-writable-and-executable",
        ],
        &["physmap-for-ring-3", "user-data-executable", "user-text-writable"],
        "",
    ),
    row(
        "a broken or hostile program file",
        "everything that the loader relies on is checked once, in a pure function",
        &["elf::*", "check::fuzz", "kernel: program::tests::any_headers_never_panic"],
        &[],
        "each `elf::` case is a defect; the checks are one function's and have no switches",
    ),
    row(
        "something of a program's left to the next: memory, the console's line",
        "pages are zeroed when they are mapped; a begun line is ended with its program",
        &["repeat::ten-thousand-starts", "hostile::*"],
        &["page-not-zeroed", "line-kept"],
        "",
    ),
    row("random bytes as code", "all of the above", &["hostile::*"], &[], "no guard of its own"),
    row(
        "memory or time that a program keeps beyond its end",
        "every frame is counted back; `limit_ticks` ends a copy",
        &["repeat::ten-thousand-starts", "repeat::time-limit", "program::hello-on-every-cpu"],
        &["frame-leaked", "limit-ignored"],
        "",
    ),
];

const INTERRUPTS: &[Hazard] = &[
    row(
        "NMI, #DB or #MC in front of the entry's `swapgs`, or behind the exit's",
        "their common entry asks neither CS nor the base's sign: it saves the GS base, sets it, puts it back",
        &[
            "guard::nmis-at-every-instruction",
            "guard::gs-base-under-nmis",
            "program::selftest-under-ipis-and-nmis",
        ],
        &["paranoid-trusts-cs", "paranoid-gs-not-restored", "syscall-gs-not-restored"],
        "",
    ),
    row(
        "an NMI inside of the NMI's handler: any `iretq` unmasks them, and the stack is in use",
        "the handler does not fault, so that its own `iretq` is the first",
        &["guard::nested-nmi-*"],
        &["nmi-unmasked"],
        "",
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
        "frames for ring 3 are built by one function that checks them; the fault gets the kernel's GS base and kills the program",
        &[],
        &["iretq-fault-gs"],
        "no program can make it fault: the frame is the kernel's, and RIP lies in the user half",
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
        "one CPU tells; it stops the others by NMI and breaks the console's lock open; without GS it knows itself by its stack",
        &["panic::in-*", "panic::while-all-write", "panic::on-cpu-*"],
        &["panic-alone", "console-kept-locked", "teller-by-gs-alone"],
        "",
    ),
    row(
        "a machine check",
        "CR4.MCE, and a report with CPU, bank, status and address. The kernel does not try to go on",
        &["machine-check::*"],
        &["mce-off"],
        "",
    ),
    row(
        "a wake-up that an NMI between `sti` and `hlt` makes the CPU sleep through",
        "the NMI goes on behind the `hlt`",
        &["kernel: arch::idle::tests::an_nmi_in_front_of_the_halt_goes_on_behind_it"],
        &["idle-halts-after-nmi"],
        "",
    ),
];

const BRING_UP: &[Hazard] = &[
    row(
        "a CPU that is lost, late, or comes twice",
        "a bounded wait, doors that close, one claim a slot; who comes late parks",
        &[
            "ap::lost",
            "ap::late",
            "kernel: online::loom_tests::loom_bsp_and_two_aps",
            "kernel: online::loom_tests::loom_late_ap_finds_a_closed_door",
        ],
        &["late-ap-let-in", "offer-relaxed", "arrive-relaxed"],
        "",
    ),
    row(
        "two CPUs on one stack",
        "a slot is claimed by a locked compare-exchange",
        &[
            "kernel: online::loom_tests::loom_two_aps_contend_for_one_slot",
            "ap_trampoline: tests::code::claim_is_a_locked_exchange_from_offered_to_claimed",
        ],
        &["claim-without-exchange", "claim-without-lock"],
        "",
    ),
    row(
        "a CPU runs ahead of the others at the run's start or end",
        "gates with release and acquire",
        &["kernel: sync::loom_tests::loom_nobody_leaves_before_all_have_come"],
        &["gate-arrive-relaxed", "gate-open-relaxed"],
        "",
    ),
    row(
        "a MADT with disabled, doubled, sparse, wide, broken or endless entries",
        "a pure parser; its table is validated before anything else reads it",
        &[
            "kernel: topology::tests::which_entries_are_cpus",
            "kernel: topology::tests::broken_tables",
            "check::fuzz",
            "machine::smp-2-of-8",
            "machine::sparse-apic-ids",
        ],
        &["madt-any-flags"],
        "",
    ),
    row(
        "control registers that differ between CPUs",
        "one function sets them whole on all; they are compared before ring 3 runs",
        &["machine::smp-2", "machine::dump-cpus-*", "guard::write-text"],
        &["ap-without-wp", "wp-off"],
        "",
    ),
    row(
        "xAPIC taken for x2APIC or the other way round",
        "the mode is read before a register is touched; APIC's global enable is never cleared",
        &["machine::cpu-xapic", "machine::cpu-qemu64", "machine::cpu-max"],
        &[],
        "the wrong way has no switch: it would not boot",
    ),
    row(
        "the timer's frequency assumed; ticks lost on a busy host",
        "measured against the ACPI timer or the PIT and repeated; where time matters the clock counts, not ticks",
        &["machine::tick-1000-hz", "machine::icount", "kernel: clock::tests::*"],
        &[],
        "TCG's timer has one fixed frequency, so that a wrong constant would show only elsewhere; the arithmetic is tested on the host",
    ),
    row(
        "CPUs that wait for each other with interrupts off",
        "no lock is held across a wait; waits look for a CPU that panics. There is no TLB shootdown",
        &["stress::calls-agree-under-storms", "panic::in-bring-up-*"],
        &[],
        "a rule of the whole code, with no one place to take away",
    ),
    row(
        "a page that is writable and executable, the trampoline's included",
        "walks over the kernel's, the bring-up's and the programs' tables",
        &["machine::no-page-writable-and-executable", "guard::write-text", "guard::write-alias"],
        &["text-writable", "text-alias-writable"],
        "",
    ),
];

/// The table as the page has it, with a heading for each part.
pub fn markdown() -> String {
    let part = |(heading, rows): &Part| {
        let rows: String = rows.iter().map(line).collect();
        format!("### {heading}\n\n| hazard | guard | shown by | mutants |\n|-|-|-|-|\n{rows}")
    };
    HAZARDS.iter().map(part).collect::<Vec<_>>().join("\n")
}

fn line(row: &Hazard) -> String {
    let code = |words: &[&str]| {
        let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
    };
    let note = if row.note.is_empty() { String::new() } else { format!(". {}", capitalized(row.note)) };
    format!("| {} | {} | {}{note} | {} |\n", row.hazard, row.guard, code(row.shown), code(row.mutants))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
#[path = "hazards_tests.rs"]
mod tests;
