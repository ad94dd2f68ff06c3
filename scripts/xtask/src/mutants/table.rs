//! The table of mutants: each removes one guard, which a test must detect.

use machine::error::Error;

use super::mutant::Mutant;
use super::mutant::Proof::{Case, Compiler, Host, LeafHandlers, Loom, NotShown};

/// Creates a row of the table.
const fn guard(guard: &'static str, name: &'static str, proof: super::mutant::Proof) -> Mutant {
    Mutant { name, guard, proof }
}

/// All mutants. Those that concern kernel entry and exit come first.
pub const MUTANTS: &[Mutant] = &[
    guard("SFMASK clears IF", "sfmask-if", Case("guard::flags-exit", &["set in ring 0: INTERRUPT_FLAG"])),
    guard(
        "SFMASK clears TF",
        "sfmask-tf",
        Case("fault::tf", &["the first instruction of the system-call entry"]),
    ),
    guard(
        "SFMASK clears DF",
        "sfmask-df",
        Host("kernel", "arch::cpu::msr::tests::syscall_clears_each_of_the_flags", "DF is not cleared"),
    ),
    guard("SFMASK clears AC", "sfmask-ac", Case("guard::flags-exit", &["ALIGNMENT_CHECK"])),
    guard("SFMASK clears NT", "sfmask-nt", Case("guard::step-nested", &["does not contain \"#DB\""])),
    guard("STAR's user base has RPL 3", "star-rpl", Compiler("an AMD CPU loads SS with RPL 0")),
    guard("SYSENTER is disabled", "sysenter-open", Case("guard::sysenter-intel", &["in ring 0"])),
    guard(
        "MSRs are read back and compared",
        "msr-not-compared",
        Host("kernel", "arch::cpu::msr::tests::msr_mismatch_is_reported_with_its_name", "left: Ok(())"),
    ),
    guard(
        "IA32_TSC_AUX holds the CPU's number",
        "tsc-aux-left",
        Case("machine::smp-2", &["exited with code 29"]),
    ),
    guard(
        "registers are preserved across a system call",
        "syscall-register-lost",
        Case("machine::smp-2", &["exited with code 21"]),
    ),
    guard("ring 3's GS base is restored", "syscall-gs-not-restored", Case("machine::smp-1", &["in ring 0"])),
    guard(
        "each CPU has its own syscall stack",
        "syscall-stack-shared",
        Case("program::hello-on-every-cpu", &["the syscall stack's top is"]),
    ),
    guard(
        "the system-call number is checked against the table's length",
        "syscall-number-unchecked",
        Case("machine::smp-1", &["page fault (#PF) in ring 0"]),
    ),
    guard(
        "the index in the table is limited without a branch",
        "syscall-index-predicted",
        NotShown("only speculative execution differs, which emulators do not perform"),
    ),
    guard("a leaf handler cannot panic", "leaf-may-panic", LeafHandlers("calls core::panicking::")),
    guard("a leaf handler does not wait", "leaf-waits", LeafHandlers("contains a loop")),
    guard(
        "registers are preserved by a call with a frame handler",
        "frame-register-lost",
        Case("machine::smp-2", &["selftest was killed"]),
    ),
    guard(
        "a call with a frame handler returns with the user's rsp",
        "frame-rsp-lost",
        Case("machine::smp-1", &["killed"]),
    ),
    guard(
        "a call with a leaf handler and TF set returns by `iretq`",
        "sysret-with-tf",
        Case("fault::tf-null", &["#DB"]),
    ),
    guard(
        "`sysretq` is used only if RIP is in the user half",
        "sysret-any-rip",
        Host("kernel", "sysret::tests::sysret_rejects_rip_outside_the_user_half", "panicked"),
    ),
    guard(
        "the last page below the non-canonical range cannot be mapped, and `sysretq` never returns there (on Bochs)",
        "sysret-non-canonical",
        Case("emulator::bochs-program-in-the-last-page", &["double fault (#DF) in ring 0"]),
    ),
    guard(
        "`sysretq` is used only with flags that it restores",
        "sysret-any-flags",
        Host("kernel", "sysret::tests::sysret_rejects_each_special_flag", "TF"),
    ),
    guard(
        "the range of a user pointer is checked",
        "user-range-unchecked",
        Case("machine::smp-1", &["exited with code 19", "in ring 0"]),
    ),
    guard(
        "the kernel recovers from a fault during a user copy (exception fixup)",
        "copy-without-fixup",
        Case("machine::smp-1", &["page fault (#PF) in ring 0"]),
    ),
    guard(
        "AC is clear after a user copy",
        "copy-leaves-ac",
        Case("guard::checked-at-every-call", &["set in ring 0: ALIGNMENT_CHECK"]),
    ),
    // String instructions then run backwards over kernel memory, so the first failure is unpredictable.
    guard(
        "`cld` at the trap entry",
        "trap-without-cld",
        Case("guard::flags-fault", &["panicked: ", "was reset"]),
    ),
    guard(
        "`clac` at the trap entry",
        "trap-without-clac",
        Case("guard::flags-fault", &["set in ring 0: ALIGNMENT_CHECK"]),
    ),
    // The tick may also interrupt the program's first instructions, which check that registers are 0, or an earlier
    // register check.
    guard(
        "registers are preserved across a tick",
        "tick-register-lost",
        Case(
            "machine::smp-1",
            &[
                "exited with code 24",
                "exited with code 28",
                "exited with code 21",
                "exited with code 22",
                "exited with code 23",
            ],
        ),
    ),
    guard(
        "callee-saved registers, which the tick's entry does not save, are preserved",
        "tick-changes-rbx",
        Case("machine::smp-1", &["selftest: FAILED: "]),
    ),
    guard(
        "registers are preserved across an interrupt other than a tick",
        "trap-register-lost",
        Case("program::selftest-under-ipis-and-nmis", &["selftest was killed: ", "exited with code 2"]),
    ),
    guard(
        "`cld` at the tick's entry",
        "tick-without-cld",
        Case("guard::checked-at-every-call", &["set in ring 0: DIRECTION_FLAG"]),
    ),
    guard(
        "`clac` at the tick's entry",
        "tick-without-clac",
        Case("guard::checked-at-every-call", &["set in ring 0: ALIGNMENT_CHECK"]),
    ),
    guard(
        "a tick does the work that is requested",
        "tick-work-ignored",
        Case("panic::in-tick-smp-1", &["exit status Some(4)"]),
    ),
    guard(
        "a measurement of the tick rate counts from its first tick",
        "measurement-continued",
        Host("kernel", "arch::percpu::time::tests::measurement_counts_from_its_first_tick", "panicked"),
    ),
    guard(
        "an NMI requests its report",
        "nmi-report-not-requested",
        Case("program::selftest-under-ipis-and-nmis", &["NMI, the latest at RIP"]),
    ),
    guard(
        "an NMI that arrives during a report is reported later",
        "nmi-report-lost",
        Loom(
            "tick_work::loom_tests::loom_nmi_during_a_report_is_reported_later",
            "NMIs that no tick reports",
        ),
    ),
    guard(
        "an NMI may request its report while other work is withdrawn",
        "tick-work-not-atomic",
        Loom("tick_work::loom_tests::loom_nmi_during_another_request_loses_neither", "panicked"),
    ),
    guard(
        "if the `iretq` to ring 3 faults, the trap entry loads the kernel's GS base",
        "iretq-fault-gs",
        Case("inject::nmi", &["general protection (#GP) in ring 0"]),
    ),
    guard(
        "the tick handler uses no vector register",
        "tick-uses-xmm",
        Case("machine::smp-1", &["selftest: FAILED: "]),
    ),
    guard(
        "`cld` at #DB entry",
        "paranoid-without-cld",
        Case("guard::flags-debug", &["panicked: ", "was reset"]),
    ),
    guard(
        "`clac` at #DB entry",
        "paranoid-without-clac",
        Case("guard::flags-debug", &["set in ring 0: ALIGNMENT_CHECK"]),
    ),
    guard(
        "the NMI entry does not use CS to decide which GS base is loaded",
        "paranoid-trusts-cs",
        Case("inject::nmi", &["the GS base is"]),
    ),
    guard(
        "NMI exit restores the GS base",
        "paranoid-gs-not-restored",
        Case("guard::gs-base-under-nmis", &["was killed: page fault"]),
    ),
    guard("NMIs have their own stack", "nmi-without-ist", Case("inject::nmi", &["own stack for it is"])),
    guard(
        "#DB has its own stack",
        "debug-without-ist",
        Case("guard::flags-debug", &["panicked", "was reset"]),
    ),
    guard("#DF has its own stack", "double-fault-without-ist", Case("panic::stack-overflow", &["was reset"])),
    guard(
        "each CPU has its own TSS.RSP0",
        "rsp0-shared",
        Case("program::hello-on-every-cpu", &["TSS.RSP0 is"]),
    ),
    guard(
        "each CPU has its own IST stacks",
        "ist-shared",
        Case("program::hello-on-every-cpu", &["an IST stack's top is"]),
    ),
    guard(
        "the page below the syscall stack is unmapped",
        "stack-without-guard",
        Case("panic::stack-overflow", &["panicked: double fault (#DF) in ring 0"]),
    ),
    guard("the TSS has no I/O permission map", "io-map-open", Case("fault::in", &["exited with code 3"])),
    guard("LDTR is null", "ldt-as-at-reset", Case("guard::ldt", &["page fault"])),
    guard(
        "the DPL of the interrupt gates forbids `int` in ring 3",
        "gate-open",
        Case("fault::int-timer", &["exited with code 3"]),
    ),
    guard("the kernel sends an EOI after a tick", "eoi-missing", Case("machine::smp-1", &["at least 3"])),
    guard(
        "the kernel sends only one EOI for each interrupt",
        "eoi-doubled",
        NotShown("at most one interrupt is in service in ring 0, so an extra EOI has no effect"),
    ),
    guard(
        "the EOI is sent in the mode of the local APIC",
        "eoi-in-wrong-mode",
        Case("machine::cpu-xapic", &["general protection (#GP) in ring 0"]),
    ),
    guard("every vector has a gate", "stray-without-gate", Case("guard::stray-interrupts", &["#GP"])),
    guard(
        "a stray interrupt gets an EOI",
        "stray-without-eoi",
        Case("guard::stray-interrupts", &["exit status Some(4)"]),
    ),
    guard(
        "an interrupt with an exception's vector has no error code",
        "stray-frame-shifted",
        Case("guard::stray-interrupts", &["in ring 0", "program killed"]),
    ),
    guard(
        "all lines of the I/O APICs are masked",
        "io-apic-left",
        Case("guard::stray-interrupts", &["235 interrupts"]),
    ),
    guard(
        "only entries of the local vector table that exist are written",
        "lvt-missing-written",
        Host(
            "kernel",
            "arch::interrupts::left_over::tests::every_entry_that_the_apic_has_and_the_kernel_does_not_use_is_masked",
            "panicked",
        ),
    ),
    guard(
        "an interrupt that the firmware left in service gets an EOI",
        "in-service-left",
        Case("machine::stale-registers", &["exit status Some(4)"]),
    ),
    guard(
        "the task priority is set to 0",
        "task-priority-left",
        Case("machine::stale-registers", &["exit status Some(4)"]),
    ),
    guard(
        "interrupts that the firmware left pending are discarded",
        "pending-left",
        Case("machine::stale-registers", &["that the kernel does not use"]),
    ),
    guard(
        "registers are zero at a program's start",
        "start-register-leaked",
        Case("machine::smp-1", &["exited with code 28"]),
    ),
    guard(
        "the FPU is reset at a program's start",
        "start-fpu-leaked",
        Case("repeat::ten-thousand-starts", &["x87 or SSE state is not the reset state"]),
    ),
    guard(
        "FNINIT is executed at a program's start",
        "start-x87-addresses-leaked",
        NotShown(
            "TCG always stores zeros as the address of the last x87 instruction, so nothing can leak; on Bochs, the program \
             `restart` detects no leak either",
        ),
    ),
    guard(
        "data segments are null at a program's start",
        "start-segments-leaked",
        Case("repeat::ten-thousand-starts", &["a data segment is not null"]),
    ),
    guard(
        "an incomplete output line is printed at the end of its program",
        "line-kept",
        Case("hostile::four-cpus", &["unknown line"]),
    ),
    guard(
        "a program's pages are zeroed before its start",
        "page-not-zeroed",
        Case("hostile::four-cpus", &["start: zeroed memory", "start: initialised memory"]),
    ),
    guard(
        "a program that exceeds its time limit is killed",
        "limit-ignored",
        Case("repeat::time-limit", &["exit status Some(4)"]),
    ),
    guard(
        "a tick ends a program that exceeds its time limit",
        "tick-ignores-limit",
        Case("repeat::time-limit", &["exit status Some(4)"]),
    ),
    guard(
        "a tick with other work also ends a program that exceeds its time limit",
        "tick-with-work-ignores-limit",
        Case("repeat::time-limit-with-traced-ticks", &["exit status Some(4)"]),
    ),
    guard("CR0.WP is set", "wp-off", Case("guard::write-text", &["exit status Some(1)"])),
    guard(
        "CR0.WP is set on the APs, and the BSP compares the control registers",
        "ap-without-wp",
        Case("machine::smp-2", &["but the BSP has"]),
    ),
    guard("SMEP is enabled", "smep-off", Case("guard::run-user", &["exit status Some(1)"])),
    guard("SMAP is enabled", "smap-off", Case("guard::read-user", &["exit status Some(1)"])),
    guard("UMIP is enabled", "umip-off", Case("guard::sgdt", &["exited with code 3"])),
    guard(
        "DR7 has its reset value",
        "debug-registers-left",
        Case("machine::stale-registers", &["exit status Some(3)"]),
    ),
    guard(
        "the machine-check banks are cleared at boot",
        "machine-checks-left",
        Case("machine-check::after-a-stale-one", &["bank 1, status 0x8000000000000151"]),
    ),
    guard(
        "machine-check reporting is enabled at boot",
        "machine-checks-disabled",
        Case("machine-check::after-a-stale-one", &["exit status Some(0)", "exit status Some(4)"]),
    ),
    guard(
        "an ACPI table's checksum is checked",
        "table-checksum-unchecked",
        Case("firmware::madt-checksum", &["CPUs that exited with code 0: 4 instead of 1"]),
    ),
    guard(
        "an ACPI table's length is checked before the table is read",
        "table-length-unchecked",
        Host("kernel", "acpi_tables::tests::each_broken_table_has_its_message", "panicked"),
    ),
    guard(
        "a second clock checks the rate of the TSC",
        "clock-unchecked",
        Host("kernel", "clock_source::tests::clocks_disagree_from_one_percent_on", "panicked"),
    ),
    guard(
        "two clocks that agree outvote the first one",
        "clock-not-outvoted",
        Host("kernel", "clock_source::tests::two_clocks_that_agree_outvote_the_first", "panicked"),
    ),
    guard(
        "the windows in which a clock is measured must agree",
        "clock-windows-unchecked",
        Host("kernel", "windows::tests::wrong_reading_between_two_windows_is_detected", "panicked"),
    ),
    guard(
        "a window that disagrees with the others does not change a clock's rate",
        "clock-window-not-outvoted",
        Host("kernel", "windows::tests::one_wrong_window_is_outvoted", "panicked"),
    ),
    guard(
        "the physical map has 4 KiB pages at the edges of memory",
        "memory-edges-rounded",
        Case("machine::smp-1", &["the kernel's mappings are wrong"]),
    ),
    guard(
        "firmware tables outside the memory map are not cached",
        "tables-cached",
        Case("machine::smp-1", &["the kernel's mappings are wrong"]),
    ),
    guard(
        "a failure before Rust code runs is written to QEMU's exit device only where it is known to exist",
        "exit-device-assumed",
        Case("boot::iso-lacking-stay", &["exit status Some(3) instead of 5"]),
    ),
    guard(
        "UEFI's runtime services power the machine off",
        "runtime-services-unused",
        Case("boot::uefi-power-off", &["exit status Some(4) instead of 5"]),
    ),
    guard(
        "UEFI's runtime services get the FPU control words of their calling convention",
        "firmware-fpu-left",
        Case("boot::uefi-power-off", &["FPU control words"]),
    ),
    guard(
        "the clock does not wrap if the TSC is below its value at boot",
        "clock-wraps",
        Host(
            "kernel",
            "arch::interrupts::timer::tests::clock_is_0_until_the_tsc_reaches_its_value_at_boot",
            "panicked",
        ),
    ),
    guard("CR4.MCE is set", "mce-off", Case("machine-check::in-ring-3-of-cpu-0", &["was reset"])),
    guard("CR4.FSGSBASE is clear", "fsgsbase-on", Case("guard::wrgsbase", &["exited with code 3"])),
    guard("CR4.PCE is clear", "pce-on", Case("guard::rdpmc", &["does not contain \"#GP\""])),
    guard(
        "x87 errors are exceptions (CR0.NE)",
        "x87-errors-external",
        Case("hostile::four-cpus", &["faults: x87 exception"]),
    ),
    guard(
        "a program's code and constants are read-only",
        "user-text-writable",
        Case("fault::text-write", &["a program's mappings are wrong"]),
    ),
    guard(
        "a program's data is not executable",
        "user-data-executable",
        Case("fault::stack-execute", &["a program's mappings are wrong"]),
    ),
    guard("the kernel's text is read-only", "text-writable", Case("machine::smp-1", &["mappings are wrong"])),
    guard(
        "the kernel's text is read-only in the physical map",
        "text-alias-writable",
        Case("guard::write-alias", &["exit status Some(1)"]),
    ),
    guard(
        "ring 3 cannot access the kernel's half",
        "physmap-for-ring-3",
        Case("machine::cpu-qemu64", &["mappings are wrong"]),
    ),
    guard(
        "a program's frames are freed",
        "frame-leaked",
        Case("program::hello-on-every-cpu", &["frames were free"]),
    ),
    guard(
        "a CPU that the firmware lists as disabled is not started",
        "madt-any-flags",
        Host("kernel", "topology::tests::enabled_entries_are_listed_as_cpus", "disabled"),
    ),
    guard("a late AP parks", "late-ap-let-in", Loom("online::loom_tests::loom_late_ap_parks", "panicked")),
    guard(
        "a slot is offered with release ordering",
        "offer-relaxed",
        Loom("online::loom_tests::loom_bsp_and_two_aps", "panicked"),
    ),
    guard(
        "a CPU that leaves the run parks with release ordering",
        "park-relaxed",
        Loom("online::loom_tests::loom_area_is_reused_only_after_the_cpu_has_left", "panicked"),
    ),
    guard(
        "an area is reused only after its CPU has left",
        "reclaim-while-leaving",
        Loom("online::loom_tests::loom_area_is_reused_only_after_the_cpu_has_left", "panicked"),
    ),
    guard(
        "the stacks of a CPU that has left are zeroed",
        "area-not-scrubbed",
        Case("cycle::under-stress", &["the syscall stack still has its old contents"]),
    ),
    guard(
        "a slot is claimed by a compare-exchange",
        "claim-without-exchange",
        Loom("online::loom_tests::loom_two_aps_contend_for_one_slot", "panicked"),
    ),
    guard(
        "the trampoline's compare-exchange has a lock prefix",
        "claim-without-lock",
        Host(
            "ap_trampoline",
            "tests::code::claim_is_a_locked_exchange_from_offered_to_claimed",
            "exchange.has_lock_prefix()",
        ),
    ),
    guard(
        "an AP reads its id from its own APIC",
        "apic-id-from-cpuid",
        Case("machine::apic-id-wider-than-in-cpuid", &["2 instead of 3", "exit status Some(3)"]),
    ),
    guard(
        "an AP without a required feature parks before it uses the feature",
        "ap-features-unchecked",
        Case("ap::without-nx", &["was reset"]),
    ),
    guard(
        "an AP without an optional feature that the BSP uses is left out",
        "ap-optional-features-unchecked",
        Case(
            "ap::without-smap",
            &["lacks SMAP, which the BSP uses; continuing without it\" was not printed"],
        ),
    ),
    guard(
        "an AP does not use features that the command line excludes",
        "ap-uses-excluded-features",
        Case("machine::without-smap-smep-umip-smp-4", &["but the BSP has"]),
    ),
    guard(
        "an AP sets the mode of the BSP's APIC",
        "ap-always-x2apic",
        Case("machine::without-x2apic", &["exit status Some(3)"]),
    ),
    guard(
        "the BSP does not use features that the command line excludes, and checks CR4",
        "excluded-features-used",
        Case("machine::without-smap-smep-umip-smp-1", &["must be unused, but the BSP has"]),
    ),
    guard(
        "the BSP uses a report of missing features only if exactly one CPU can have written it",
        "shared-report-trusted",
        Host(
            "kernel",
            "online::tests::report_row_is_used_only_if_exactly_one_cpu_can_have_written_it",
            "[1, 257]",
        ),
    ),
    guard(
        "an AP reports its arrival with release ordering",
        "arrive-relaxed",
        Loom("online::loom_tests::loom_bsp_and_two_aps", "panicked"),
    ),
    guard(
        "a CPU arrives at a barrier with release ordering",
        "gate-arrive-relaxed",
        Loom("sync::loom_tests::loom_gate_opens_after_all_arrivals", "panicked"),
    ),
    guard(
        "a CPU reads the state of a barrier with acquire ordering",
        "gate-open-relaxed",
        Loom("sync::loom_tests::loom_gate_opens_after_all_arrivals", "panicked"),
    ),
    guard(
        "after an NMI between `sti` and `hlt` the CPU does not halt",
        "idle-halts-after-nmi",
        Host("kernel", "arch::task::idle::tests::nmi_at_hlt_resumes_after_it", "panicked"),
    ),
    guard(
        "a panic stops the other CPUs",
        "panic-alone",
        Case("panic::while-others-loop", &["3 of 3 other CPUs stopped\" was not printed"]),
    ),
    guard(
        "a CPU that panics before it has enabled its local APIC stops the other CPUs",
        "panic-before-apic-alone",
        Case("panic::in-come-back", &["3 of 3 other CPUs stopped\" was not printed"]),
    ),
    guard(
        "a panic bypasses the console's lock",
        "console-kept-locked",
        Case("panic::in-console-held-smp-8", &["timed out before"]),
    ),
    guard(
        "a CPU that parks twice for a panic counts once",
        "stop-counted-twice",
        Case("panic::second-panic", &["for the full time\" was not printed"]),
    ),
    guard(
        "the wait for a UART is bounded",
        "uart-wait-unbounded",
        Case("uart::panic-while-stuck", &["exit status Some(4)"]),
    ),
    guard(
        "a UART must pass a test in loop-back mode",
        "uart-loop-back-unchecked",
        Host("kernel", "uart_probe::tests::only_a_uart_with_loop_back_is_working", "busy for"),
    ),
    guard(
        "the console moves to the UART that the firmware's table names",
        "spcr-ignored",
        Case("uart::spcr-com2", &["no record from the kernel arrived"]),
    ),
    guard(
        "the screen shows the characters of the font",
        "screen-mirrored",
        Case("screen::table", &["not a character of the font"]),
    ),
    guard(
        "every row of the screen is drawn",
        "screen-row-left-out",
        Case("screen::table", &["the lines on the screen", "not a character of the font"]),
    ),
    guard(
        "a CPU whose program prints handles its ticks",
        "printing-without-ticks",
        Case("uart::stuck-in-ring-3", &["ticks, at least"]),
    ),
    guard(
        "CPUs whose programs print take turns",
        "turns-not-handed-over",
        Host("kernel", "turns::tests::waiting_cpus_take_turns", "although CPUs wait"),
    ),
    guard(
        "after releasing the console, a CPU checks again whether another CPU waits",
        "turns-flags-not-rechecked",
        Loom("turns::loom_tests::loom_turns_are_exclusive_and_no_wake_up_is_lost", "panicked"),
    ),
    guard(
        "an error of the local APIC that occurs while its CPU prints is reported after the line",
        "apic-error-unreported",
        Case("inject::nmi", &["reported 0 local APIC errors instead of 1"]),
    ),
    guard(
        "dropped output is reported at the end of the run",
        "dropped-unreported",
        Case("uart::stuck-in-ring-3", &["exit status Some(0)"]),
    ),
    guard(
        "a panic before the GS base is set identifies its CPU by RSP",
        "panic-cpu-by-gs-alone",
        Case("panic::in-bring-up-of-an-ap", &["a CPU whose index is unknown panicked"]),
    ),
    guard(
        "an AP loads its descriptor tables first",
        "tables-late",
        Case("panic::overflow-in-bring-up-of-an-ap", &["was reset"]),
    ),
    guard(
        "an NMI that arrives in the NMI handler is deferred until the handler has returned",
        "nmi-nested-unnoticed",
        Case("guard::nested-nmi-smp-1", &["an NMI interrupted the NMI handler", "was reset"]),
    ),
    guard(
        "the NMI handler runs again for an NMI that arrived in it",
        "nmi-nested-lost",
        Case("guard::nested-nmi-smp-1", &["an NMI was lost during another one"]),
    ),
    guard(
        "an NMI between the decision to return from an NMI and the `iretq` does not overwrite the frame of that `iretq`",
        "nmi-returning-unnoticed",
        Case("inject::nmi", &["path nmi-returning: the frame has RIP"]),
    ),
    guard(
        "an NMI that has overwritten the frame of another NMI ends the run",
        "nmi-frame-lost",
        Case("inject::nmi", &["found: the run timed out"]),
    ),
    guard(
        "a trace event reserves its record with one instruction",
        "trace-reserve-non-atomic",
        Host(
            "kernel",
            "arch::trace::nmi_tests::nmi_at_any_instruction_leaves_no_drop_unreported",
            "NMI with ",
        ),
    ),
    guard(
        "the entry and the exit of a system call, and an NMI's events, fit in the slots that are kept free",
        "trace-slack-too-small",
        Host(
            "kernel",
            "arch::trace::nmi_tests::nmi_at_any_instruction_of_a_recorded_call_leaves_no_drop_unreported",
            "Call, OneTaken, NMI with ",
        ),
    ),
    guard(
        "a system call beyond the table is recorded with its number",
        "trace-index-for-number",
        Case("trace::numbers-beyond-the-table", &["are recorded with their numbers"]),
    ),
    guard(
        "a dropped trace event is reported by the next event",
        "trace-drop-unreported",
        Host(
            "kernel",
            "arch::trace::nmi_tests::nmi_at_any_instruction_leaves_no_drop_unreported",
            "NMI with ",
        ),
    ),
];

/// Finds the mutant of this name.
pub fn find(name: &str) -> Result<&'static Mutant, Error> {
    let found = MUTANTS.iter().find(|mutant| mutant.name == name);
    found.ok_or_else(|| Error::Usage(format!("there is no mutant {name:?}; see cargo xtask mutants --list")))
}
