//! Hazards of system calls.

use super::{Hazard, row};

/// The rows.
pub const SYSTEM_CALLS: &[Hazard] = &[
    row(
        "`sysretq` to a non-canonical RIP: #GP in ring 0 on ring 3's stack (CVE-2012-0217)",
        "`may_sysret` checks RIP and flags; the last page below the hole cannot be mapped",
        &[
            "kernel: sysret::tests::sysret_rejects_rip_outside_the_user_half",
            "kernel: sysret::tests::agrees_with_the_conditions_one_by_one",
            "kernel: program::tests::segments_outside_the_allowed_range_are_rejected",
            "elf::in-kernel-half",
            "elf::wrapping",
        ],
        &["sysret-any-rip", "sysret-any-flags"],
        "on the host: there are two guards, and no program gets past the first; and only Intel's \
         semantics, in QEMU 10.0.13 or later, would fault",
    ),
    row(
        "ring 3's flags in effect in ring 0: IF, TF, DF, AC, NT, IOPL",
        "SFMASK; `cld` and `clac` on the entries through the IDT; the `checking` build tests FLAGS at \
         every entry",
        &[
            "guard::flags-exit",
            "guard::flags-fault",
            "guard::flags-debug",
            "guard::step-nested",
            "guard::checked-at-every-call",
            "kernel: arch::cpu::msr::tests::syscall_clears_each_of_the_flags",
            "hostile::*",
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
        "single-stepping or NT across `syscall`; #DB at the entry's first instruction (XSA-204)",
        "SFMASK clears TF and NT, so no #DB is raised there; #DB has a stack of its own, and its handler \
         clears TF and returns",
        &["fault::tf", "guard::step-nested", "guard::flags-debug", "hostile::*", "inject::debug"],
        &["sfmask-tf", "sfmask-nt", "debug-without-ist"],
        "without TF in SFMASK the #DB is raised at that instruction, and the run still continues after it",
    ),
    row(
        "a hostile stack pointer before the stack switch",
        "no memory is accessed through it; NMI, #DB, #MC and #DF have stacks of their own",
        &["fault::rsp-*", "guard::nmis-at-every-instruction", "hostile::*", "inject::nmi"],
        &["nmi-without-ist", "debug-without-ist"],
        "",
    ),
    row(
        "a system call's number beyond the table",
        "one unsigned comparison, and a mask after it",
        &["machine::smp-1", "stress::calls-agree-to-the-last", "hostile::*"],
        &["syscall-number-unchecked", "syscall-index-unmasked"],
        "the mask acts on speculative execution past the branch, which no emulator shows",
    ),
    row(
        "registers lost or leaked across calls, ticks and starts",
        "all are preserved except rax, rcx, r11; all are zero at a start",
        &["machine::*", "stress::calls-agree-*", "hostile::*", "inject::nmi"],
        &["syscall-register-lost", "trap-register-lost", "start-register-leaked", "start-segments-leaked"],
        "",
    ),
    row(
        "ring 3's x87 and SSE state changed or leaked",
        "the kernel is soft-float; the FPU is reset at a start; an x87 error is an exception (CR0.NE)",
        &["check::soft-float", "machine::*", "repeat::ten-thousand-starts", "hostile::*", "inject::nmi"],
        &["tick-uses-xmm", "start-fpu-leaked", "start-x87-addresses-leaked", "x87-errors-external"],
        "",
    ),
    row(
        "STAR without RPL 3: SS with RPL 0 on AMD",
        "an assertion at compile time; every MSR of the system-call path is read back on every CPU",
        &["kernel: arch::cpu::msr::tests::msr_mismatch_is_reported_with_its_name", "machine::dump-cpus-*"],
        &["star-rpl", "msr-not-compared"],
        "",
    ),
    row(
        "other entries: `int n`, `sysenter`, a 32-bit `syscall`, the LDT",
        "gates closed to ring 3 except #BP and #OF; SYSENTER_CS and CSTAR are 0; no 32-bit code segment; \
         no LDT",
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
        "pointers from ring 3: null, the kernel's, non-canonical, wrapping, unmapped in the middle",
        "a range check in one place; one copy that recovers from its fault; then only the copy is used",
        &["machine::*", "kernel: user_slice::tests::ranges_at_the_borders", "check::fuzz", "hostile::*"],
        &["user-range-unchecked", "copy-without-fixup"],
        "",
    ),
    row(
        "AC left set after a copy: ring 3's memory accessible to ring 0",
        "`clac` on every exit from the copy, including a fault; SMAP",
        &[
            "guard::checked-at-every-call",
            "guard::read-user",
            "guard::run-user",
            "hostile::checked-at-every-call",
        ],
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
        "no page of that half is ring 3's; a walk over the kernel's mappings at boot and over each \
         program's before its start",
        &[
            "fault::kernel-*",
            "fault::text-write",
            "fault::stack-execute",
            "machine::no-page-writable-and-executable",
            "hostile::*",
        ],
        &["physmap-for-ring-3", "user-data-executable", "user-text-writable"],
        "",
    ),
    row(
        "arbitrary bytes executed as code in ring 3",
        "all of the above",
        &["hostile::*"],
        &[],
        "seeded, thousands of rounds in `cargo xtask hostile`; any failure belongs to a row above",
    ),
    row(
        "a broken or hostile program file",
        "everything that the loader relies on is checked once, in a pure function",
        &["elf::*", "check::fuzz", "kernel: program::tests::any_headers_never_panic"],
        &[],
        "each `elf::` case is a defect; the checks are in one function, which has no mutants",
    ),
    row(
        "state that a program leaves to the next: memory, the console's line",
        "pages are zeroed when they are mapped; an incomplete line ends with its program",
        &["repeat::ten-thousand-starts", "hostile::*"],
        &["page-not-zeroed", "line-kept"],
        "",
    ),
    row(
        "memory that a program keeps after its end, or unlimited time",
        "every frame is counted back; `limit_ticks` ends a copy",
        &["repeat::ten-thousand-starts", "repeat::time-limit", "program::hello-on-every-cpu"],
        &["frame-leaked", "limit-ignored"],
        "",
    ),
];
