//! Hazards of system calls.

use super::{Hazard, row};

/// The rows of this part.
pub const SYSTEM_CALLS: &[Hazard] = &[
    row(
        "`sysretq` to a non-canonical RIP raises #GP in ring 0 on the user's stack (CVE-2012-0217)",
        "the last page below the non-canonical range cannot be mapped; after a frame handler, `may_sysret` checks RIP \
         and flags",
        &[
            "kernel: sysret::tests::sysret_rejects_rip_outside_the_user_half",
            "kernel: sysret::tests::agrees_with_the_conditions_one_by_one",
            "kernel: program::tests::segments_outside_the_allowed_range_are_rejected",
            "elf::in-kernel-half",
            "elf::wrapping",
            "elf::in-the-last-page",
            "emulator::bochs-program-in-the-last-page",
        ],
        &["sysret-any-rip", "sysret-any-flags", "sysret-non-canonical"],
        "`may_sysret` alone is tested on the host only, because the mapping rule keeps programs from reaching it. The \
         #GP is emulated by Bochs, and by QEMU 10.0.13 or later with an Intel CPU model",
    ),
    row(
        "the user's flags (IF, TF, DF, AC, NT, IOPL) have an effect in ring 0",
        "SFMASK clears them; the entries through the IDT execute `cld` and `clac`; the `checking` build \
         tests RFLAGS at every entry",
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
            "tick-without-cld",
            "tick-without-clac",
            "paranoid-without-cld",
            "paranoid-without-clac",
        ],
        "",
    ),
    row(
        "TF or NT is set at `syscall`: #DB at the first instruction of the entry (XSA-204), or #GP at a \
         later `iretq`",
        "SFMASK clears TF and NT; #DB has its own stack, and its handler clears TF and returns; a call with TF set \
         returns by `iretq`",
        &[
            "fault::tf",
            "fault::tf-*",
            "guard::step-nested",
            "guard::flags-debug",
            "hostile::*",
            "inject::debug",
        ],
        &["sfmask-tf", "sfmask-nt", "debug-without-ist", "sysret-with-tf"],
        "on the mutant `sfmask-tf`, `fault::tf` fails because the kernel reports the #DB in ring 0; the run continues \
         nevertheless",
    ),
    row(
        "ring 0 runs with an invalid user stack pointer before the stack switch",
        "the entry code does not access memory through rsp; NMI, #DB, #MC and #DF have their own stacks",
        &["fault::rsp-*", "guard::nmis-at-every-instruction", "hostile::*", "inject::nmi"],
        &["nmi-without-ist", "debug-without-ist"],
        "",
    ),
    row(
        "a system-call number beyond the end of the table",
        "the index is the lower of the number and the length of the table, by an unsigned comparison and `cmovb`",
        &["machine::smp-1", "stress::call-counts-match", "hostile::*"],
        &["syscall-number-unchecked", "syscall-index-predicted"],
        "no test can detect a predicted index, because emulators do not execute speculatively",
    ),
    row(
        "a handler that has no frame panics, waits or ends the program",
        "`check::leaf-handlers` disassembles the leaf handlers: they reach no other code than that which writes a trace \
         record, and contain no loop",
        &["check::leaf-handlers"],
        &["leaf-may-panic", "leaf-waits"],
        "",
    ),
    row(
        "general registers are lost or leaked by calls, ticks or program starts",
        "calls preserve all registers except rax, rcx and r11; ticks preserve all; at a program's start all \
         are zero",
        &["machine::*", "stress::call-counts-match*", "hostile::*", "inject::nmi"],
        &[
            "syscall-register-lost",
            "frame-register-lost",
            "frame-rsp-lost",
            "trap-register-lost",
            "tick-register-lost",
            "tick-changes-rbx",
            "start-register-leaked",
            "start-segments-leaked",
        ],
        "",
    ),
    row(
        "x87 and SSE state is changed or leaked",
        "the kernel is soft-float; the FPU is reset at a program's start; an x87 error raises an exception \
         (CR0.NE)",
        &["check::soft-float", "machine::*", "repeat::ten-thousand-starts", "hostile::*", "inject::nmi"],
        &["tick-uses-xmm", "start-fpu-leaked", "start-x87-addresses-leaked", "x87-errors-external"],
        "",
    ),
    row(
        "the user base in STAR has RPL 0, so AMD CPUs load SS with RPL 0",
        "a compile-time assertion; every CPU reads back every MSR of the system-call path",
        &["kernel: arch::cpu::msr::tests::msr_mismatch_is_reported_with_its_name", "machine::dump-cpus-*"],
        &["star-rpl", "msr-not-compared"],
        "",
    ),
    row(
        "ring 3 enters the kernel through `int n`, `sysenter`, a 32-bit `syscall`, or a gate in an LDT",
        "with `int n`, ring 3 can use only the gates of #BP and #OF; SYSENTER_CS and CSTAR are 0; there is no 32-bit \
         code segment and no LDT",
        &[
            "fault::sysenter",
            "guard::sysenter-intel",
            "fault::int80",
            "fault::int-timer",
            "guard::ldt",
            "hostile::*",
        ],
        &["sysenter-open", "gate-open", "ldt-as-at-reset"],
        "",
    ),
    row(
        "an invalid user pointer: null, in the kernel's half, non-canonical, or to a range that wraps around or \
         is partly unmapped",
        "one function checks the range; one function copies the bytes and recovers from a fault; the kernel \
         then uses only the copy",
        &[
            "machine::*",
            "kernel: user_slice::tests::ranges_at_the_limits_are_checked",
            "check::fuzz",
            "hostile::*",
        ],
        &["user-range-unchecked", "copy-without-fixup"],
        "",
    ),
    row(
        "AC stays set after a copy, so ring 0 can access user memory",
        "the copy executes `clac` at its end, also after a fault; SMAP is enabled",
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
        "a privileged instruction succeeds in ring 3",
        "IOPL is 0, there is no I/O permission map, UMIP is enabled, and PCE and FSGSBASE are off. TSD is \
         off on purpose, so `rdtsc` is permitted",
        &["fault::*", "guard::s*", "guard::rdpmc", "guard::wrgsbase", "hostile::*"],
        &["io-map-open", "umip-off", "pce-on", "fsgsbase-on"],
        "",
    ),
    row(
        "ring 3 accesses the kernel's half, or writes to executable pages",
        "no page of the kernel's half is accessible in ring 3; the kernel walks its page tables at boot, \
         and those of each program before its start",
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
        "ring 3 executes arbitrary bytes as code",
        "all guards in the rows above",
        &["hostile::*"],
        &[],
        "`cargo xtask hostile` executes random bytes in thousands of rounds; a failure would belong to one \
         of the rows above",
    ),
    row(
        "a broken or hostile program file",
        "a pure function checks every property on which the loader relies",
        &["elf::*", "check::fuzz", "kernel: program::tests::any_headers_never_panic"],
        &[],
        "there are no mutants; instead, each `elf::` case loads a file with one defect",
    ),
    row(
        "a program sees state left over from an earlier program: memory contents or an incomplete console line",
        "pages are zeroed when they are mapped; an incomplete line is printed when its program ends",
        &["repeat::ten-thousand-starts", "hostile::*"],
        &["page-not-zeroed", "line-kept"],
        "",
    ),
    row(
        "a program's memory is not freed at its end, or the program runs without limit",
        "the number of free frames is compared at the end of the run; `limit_ticks` ends a copy",
        &["repeat::ten-thousand-starts", "repeat::time-limit*", "program::hello-on-every-cpu"],
        &["frame-leaked", "limit-ignored", "tick-ignores-limit", "tick-with-work-ignores-limit"],
        "",
    ),
];
