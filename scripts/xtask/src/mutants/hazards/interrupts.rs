//! Hazards of interrupts, of NMI and other exceptions with IST stacks, and of kernel failures.

use super::{Hazard, row};

/// The rows of this part.
pub const INTERRUPTS: &[Hazard] = &[
    row(
        "an NMI, #DB or #MC before the `swapgs` of an entry, or after the `swapgs` of an exit",
        "the common entry of these vectors tests neither CS nor the sign of the GS base; it saves the GS \
         base, sets it, and restores it",
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
        "an NMI inside the NMI handler overwrites the stack in use, because an `iretq` or an SMI unblocked NMIs",
        "the handler does not fault; the NMI entry copies the frame and sets a flag, because of which a nested NMI returns \
             at once and the handler then runs again",
        &["guard::nested-nmi-*", "inject::nmi"],
        &["nmi-nested-unnoticed", "nmi-nested-lost", "nmi-returning-unnoticed", "nmi-frame-lost"],
        "QEMU delivers no SMI in an NMI handler, so the tests unblock NMIs by an `iretq` in the handler, or simulate the \
             second NMI from the host",
    ),
    row(
        "an NMI while a trace event is recorded: a record is lost, a record is reserved twice, or a drop is \
         not reported",
        "reserving a record, counting a drop, and reporting the drop each take one instruction; the two records of a system \
         call share one check for room, which leaves enough slots free",
        &[
            "kernel: arch::trace::nmi_tests::nmi_at_any_instruction_leaves_no_drop_unreported",
            "kernel: arch::trace::nmi_tests::nmi_at_any_instruction_of_a_recorded_call_leaves_no_drop_unreported",
            "trace::*",
        ],
        &[
            "trace-reserve-non-atomic",
            "trace-slack-too-small",
            "trace-index-for-number",
            "trace-drop-unreported",
        ],
        "the host test simulates the NMI by single-stepping",
    ),
    row(
        "an NMI while the CPU handles the work that earlier NMIs have requested: its report is lost",
        "each change of the word that holds the work of a tick is one atomic instruction; the request for a report is \
         withdrawn before the NMIs are counted",
        &[
            "kernel: tick_work::loom_tests::loom_nmi_during_a_report_is_reported_later",
            "kernel: tick_work::loom_tests::loom_nmi_during_another_request_loses_neither",
            "program::selftest-under-ipis-and-nmis",
        ],
        &["nmi-report-not-requested", "nmi-report-lost", "tick-work-not-atomic"],
        "",
    ),
    row(
        "a tick omits work that is requested, because the bit for this work is clear",
        "the function that starts or ends a kind of work sets or clears its bit",
        &[
            "panic::in-tick-*",
            "program::selftest-under-ipis-and-nmis",
            "kernel: arch::percpu::time::tests::measurement_counts_from_its_first_tick",
            "kernel: tick_work::tests::each_kind_of_work_is_requested_and_withdrawn_by_itself",
            "trace::*",
        ],
        &["tick-work-ignored", "measurement-continued"],
        "",
    ),
    row(
        "two CPUs share a TSS, a GDT or a stack",
        "each CPU has its own area; a check compares the area with the CPU's registers before and after a \
         program",
        &["machine::dump-cpus-*", "panic::double-fault-on-two-cpus-at-once", "program::hello-on-every-cpu"],
        &["syscall-stack-shared", "rsp0-shared", "ist-shared"],
        "",
    ),
    row(
        "a kernel stack overflow, in any context",
        "the page below each stack is unmapped; #DF has its own stack; a CPU loads its descriptor tables \
         first",
        &["panic::stack-overflow", "panic::overflow-in-*", "panic::double-fault-in-*"],
        &["double-fault-without-ist", "stack-without-guard", "tables-late"],
        "",
    ),
    row(
        "the `iretq` to ring 3 faults on an invalid frame",
        "one function builds and checks the frames for ring 3; after a fault the trap entry loads the \
         kernel's GS base, and the kernel kills the program",
        &["inject::nmi"],
        &["iretq-fault-gs"],
        "no program can cause this fault, so `inject` writes a non-existent CS to the frame",
    ),
    row(
        "an EOI is missing, sent twice, or sent for a spurious interrupt",
        "one place in the code sends the EOI of all ticks, and another one sends the EOI of all other interrupts",
        &["machine::smp-1", "machine::cpu-xapic"],
        &["eoi-missing", "eoi-doubled", "eoi-in-wrong-mode"],
        "no test can detect an extra EOI, because it has no effect while ring 0 runs with interrupts off",
    ),
    row(
        "an interrupt with a vector that the kernel does not use raises #GP in the interrupted program, or gets no EOI, so \
             that the tick stays blocked",
        "all 256 vectors have gates; a stray interrupt is counted, reported, and acknowledged if it is in service; \
         the lines of the I/O APICs and all unused entries of the local vector table are masked; what the firmware \
         left in service or pending is discarded",
        &[
            "guard::stray-interrupts",
            "machine::stale-registers",
            "kernel: stray::tests::interrupt_is_distinguished_from_an_exception_by_vector_or_apic",
        ],
        &[
            "stray-without-gate",
            "stray-without-eoi",
            "stray-frame-shifted",
            "io-apic-left",
            "lvt-missing-written",
            "in-service-left",
            "task-priority-left",
            "pending-left",
        ],
        "vector 18 is handled differently: its gate is that of #MC, whose handler ends the run",
    ),
    row(
        "a panic while other CPUs run, or while one of them holds the console's lock",
        "only one CPU reports; it stops the others by NMI, waits until each has set its flag, reports how \
         many have, and bypasses the console's lock; a CPU without a GS base identifies itself by its stack, and one whose local APIC is not \
         enabled yet can still send the NMIs",
        &["panic::in-*", "panic::while-*", "panic::second-panic", "panic::on-cpu-*"],
        &[
            "panic-alone",
            "panic-before-apic-alone",
            "console-kept-locked",
            "stop-counted-twice",
            "panic-cpu-by-gs-alone",
        ],
        "",
    ),
    row(
        "a UART that never becomes ready, or does not exist",
        "the kernel waits at most 2^34 TSC ticks for a line; after a timeout it drops output without waiting, until the UART \
             is ready again; dropped bytes are counted per CPU, and the host tool does not count the run as a pass",
        &["uart::*", "kernel: transmit::tests::stuck_uart_costs_one_timeout_not_one_for_each_line"],
        &["uart-wait-unbounded", "dropped-unreported", "uart-loop-back-unchecked"],
        "",
    ),
    row(
        "no console output is visible: there is no UART at COM1, or the reader is connected to another UART",
        "the console is also on the screen, and on the UART that the firmware's table SPCR names; the text on the \
         screen is drawn completely",
        &[
            "screen::*",
            "uart::none",
            "uart::spcr-com2",
            "kernel: screen::draw::tests::every_pixel_is_the_fonts",
        ],
        &["spcr-ignored", "screen-mirrored", "screen-row-left-out"],
        "",
    ),
    row(
        "programs that print delay each other's ticks, or starve each other",
        "they take turns at the console, in round-robin order, and wait with interrupts on",
        &[
            "uart::stuck-in-ring-3",
            "kernel: turns::tests::waiting_cpus_take_turns",
            "kernel: turns::loom_tests::loom_turns_are_exclusive_and_no_wake_up_is_lost",
        ],
        &["printing-without-ticks", "turns-not-handed-over", "turns-flags-not-rechecked"],
        "a program's line also waits for all kernel lines that other CPUs are about to write. A program causes at most \
         one of these; the others report NMIs and other rare interrupts, so only their source can delay the line \
         without bound",
    ),
    row(
        "an error interrupt of the local APIC arrives while its CPU prints: the report is printed in the middle of the line, \
             or lost",
        "the handler only stores the error, and the CPU reports it after the line",
        &["inject::nmi"],
        &["apic-error-unreported"],
        "QEMU's local APIC raises no error interrupt, so the host simulates one",
    ),
    row(
        "a machine check",
        "CR4.MCE is set; the kernel reports CPU, bank, status and address, and ends the run",
        &["machine-check::*", "inject::machine-check"],
        &["mce-off"],
        "",
    ),
    row(
        "a wake-up interrupt is lost because of an NMI between `sti` and `hlt`",
        "the NMI handler returns to the instruction after the `hlt`",
        &["kernel: arch::task::idle::tests::nmi_at_hlt_resumes_after_it", "inject::nmi"],
        &["idle-halts-after-nmi"],
        "",
    ),
];
