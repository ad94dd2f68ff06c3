//! Hazards of bring-up, multiple CPUs and timekeeping.

use super::{Hazard, row};

/// The rows of this part.
pub const BRING_UP: &[Hazard] = &[
    row(
        "an AP that does not arrive, arrives late, or is started twice",
        "the BSP's wait is bounded, and then it closes the slots; each slot can be claimed only once; a \
         late AP parks",
        &[
            "ap::lost",
            "ap::late",
            "kernel: online::loom_tests::loom_bsp_and_two_aps",
            "kernel: online::loom_tests::loom_late_ap_parks",
        ],
        &["late-ap-let-in", "offer-relaxed", "arrive-relaxed"],
        "",
    ),
    row(
        "the area of a CPU that has left the run is reused while the CPU still uses it, or with old contents",
        "a CPU that leaves releases its area with its last access to memory; only then does the BSP initialise the area \
             again; the CPU checks the area when it comes back",
        &[
            "kernel: online::loom_tests::loom_area_is_reused_only_after_the_cpu_has_left",
            "cycle::under-stress",
            "cycle::started-while-its-area-is-reused",
        ],
        &["park-relaxed", "reclaim-while-leaving", "area-not-scrubbed"],
        "",
    ),
    row(
        "two CPUs use the same stack",
        "a slot is claimed by a locked compare-exchange",
        &[
            "kernel: online::loom_tests::loom_two_aps_contend_for_one_slot",
            "ap_trampoline: tests::code::claim_is_a_locked_exchange_from_offered_to_claimed",
        ],
        &["claim-without-exchange", "claim-without-lock"],
        "",
    ),
    row(
        "an AP uses the APIC id of another CPU",
        "an AP reads the id from its own APIC, in the BSP's mode; the kernel warns if CPUID reports another \
         id",
        &[
            "ap_trampoline: tests::arrival::apic_enters_x2apic_mode_before_its_id_is_read",
            "ap_trampoline: tests::arrival::apic_stays_in_xapic_mode_if_the_bsp_uses_it",
            "machine::apic-id-wider-than-in-cpuid",
        ],
        &["apic-id-from-cpuid"],
        "",
    ),
    row(
        "a CPU enters or leaves the run before the others are ready",
        "the CPUs meet at barriers (`sync::Gate`): an arrival is a release operation, and waiting CPUs poll with acquire loads",
        &["kernel: sync::loom_tests::loom_gate_opens_after_all_arrivals"],
        &["gate-arrive-relaxed", "gate-open-relaxed"],
        "",
    ),
    row(
        "ACPI tables with a wrong checksum, a length beyond memory or below that of the header, or missing tables",
        "one module finds the tables and checks signature, length and checksum before anything reads them; a table that \
         is not valid is a warning, and without the MADT the BSP runs alone",
        &[
            "firmware::*",
            "kernel: acpi_tables::tests::each_broken_table_has_its_message",
            "kernel: acpi_tables::tests::changed_firmware_satisfies_the_properties",
            "check::fuzz",
        ],
        &["table-checksum-unchecked", "table-length-unchecked"],
        "",
    ),
    row(
        "a MADT with disabled, duplicate or malformed entries, with sparse ids or ids above 254, or with entries of length 0 or \
         beyond its end",
        "a pure parser with host tests; the table is validated before any other code reads it",
        &[
            "kernel: topology::tests::enabled_entries_are_listed_as_cpus",
            "kernel: topology::tests::invalid_tables_are_rejected",
            "check::fuzz",
            "machine::smp-2-of-8",
            "machine::sparse-apic-ids",
        ],
        &["madt-any-flags"],
        "",
    ),
    row(
        "an AP lacks a feature that the kernel requires, or an optional one that the BSP uses",
        "the trampoline and the AP's entry point check CPUID before the first use of a feature; the AP reports what it \
             lacks, and parks; the BSP uses a report only if exactly one CPU can have written it",
        &[
            "ap::without-*",
            "machine::one-cpu-with-more-features",
            "ap_trampoline: tests::features::check_precedes_the_first_use",
            "kernel: online::tests::report_row_is_used_only_if_exactly_one_cpu_can_have_written_it",
        ],
        &["ap-features-unchecked", "ap-optional-features-unchecked", "shared-report-trusted"],
        "",
    ),
    row(
        "control registers that differ between CPUs",
        "one function writes complete values on all CPUs; the BSP compares the registers before ring 3 runs",
        &["machine::smp-2", "machine::dump-cpus-*", "guard::write-text"],
        &["ap-without-wp", "wp-off"],
        "",
    ),
    row(
        "a feature is enabled although `without=` names it, or a violation that the feature prevents is tested without \
             the feature",
        "all CPUs enable the features of one set; the BSP compares this set with CR4 and IA32_APIC_BASE as read back; \
             `breach=` is rejected if nothing would prevent the violation",
        &["machine::without-*", "cmdline::breach-*", "cmdline::without-*"],
        &["ap-uses-excluded-features", "excluded-features-used"],
        "",
    ),
    row(
        "`rdtscp` or `rdpid` returns the number of another CPU, or a value that the firmware left there",
        "each CPU writes its number to IA32_TSC_AUX when the numbers are final, reads it back and compares",
        &["machine::*", "ap::lost"],
        &["tsc-aux-left"],
        "",
    ),
    row(
        "a breakpoint, branch stepping or an old machine check that the firmware left; machine-check reporting that it \
         disabled",
        "DR7 and DEBUGCTL get their reset values and are compared; before it sets CR4.MCE, a CPU reports old machine \
         checks, clears their banks and enables reporting of all errors",
        &[
            "machine::stale-registers",
            "machine-check::after-a-stale-one",
            "kernel: arch::cpu::machine_check::tests::stale_banks_are_reported_and_all_are_cleared",
            "kernel: arch::cpu::machine_check::tests::all_errors_are_enabled",
        ],
        &["debug-registers-left", "machine-checks-left", "machine-checks-disabled"],
        "TCG has no DEBUGCTL",
    ),
    row(
        "a TSC that is out of step with the BSP's, or whose rate changes",
        "the clock is 0 until the TSC has reached its value at boot; the kernel prints a warning if a CPU's TSC or \
         IA32_TSC_ADJUST differs from the BSP's, and if the TSC is not invariant",
        &[
            "kernel: arch::interrupts::timer::tests::clock_is_0_until_the_tsc_reaches_its_value_at_boot",
            "kernel: clock::tests::tsc_outside_the_two_reads_is_behind_or_ahead",
            "machine::tsc-not-invariant",
        ],
        &["clock-wraps"],
        "under TCG all CPUs share one TSC",
    ),
    row(
        "the kernel uses xAPIC accesses in x2APIC mode, or x2APIC accesses in xAPIC mode",
        "the kernel sets the mode before it accesses a register, compares the modes of all CPUs, and never \
         clears the APIC's global enable bit",
        &[
            "machine::cpu-xapic",
            "machine::cpu-qemu64",
            "machine::cpu-max",
            "machine::one-cpu-with-x2apic",
            "machine::without-x2apic",
        ],
        &["ap-always-x2apic"],
        "",
    ),
    row(
        "a wrong assumption about the timer's frequency; lost ticks on a busy host",
        "the TSC is measured in several windows against the HPET, the ACPI timer or the PIT, whichever the machine has, or its \
         rate is read from CPUID; the windows must agree; a second clock checks the rate, and the APIC timer is measured against the TSC; durations are \
         measured by the clock and not by ticks",
        &[
            "machine::clock-*",
            "machine::tick-1000-hz",
            "machine::icount",
            "emulator::bochs-intel",
            "kernel: clock_source::tests::*",
            "kernel: clock::tests::*",
            "kernel: windows::tests::*",
        ],
        &["clock-unchecked", "clock-not-outvoted", "clock-windows-unchecked", "clock-window-not-outvoted"],
        "TCG's APIC timer has a fixed frequency, so a wrong constant would show only on other machines; host \
         tests cover the arithmetic",
    ),
    row(
        "the end of a run writes to a port that belongs to another device, or the machine cannot be powered off",
        "the kernel writes to QEMU's exit device only if QEMU itself has loaded it or the command line has \
             `verdict=exit`; it resets the machine and powers it off through the runtime services of UEFI firmware, \
             or else through the registers that the ACPI tables name; the services get the FPU control words that \
             their calling convention requires",
        &[
            "boot::iso-lacking",
            "boot::iso-lacking-stay",
            "boot::pvh-lacking-stay",
            "boot::uefi-power-off",
            "boot::uefi-reboot",
            "boot::power-off",
            "boot::reboot",
        ],
        &["exit-device-assumed", "runtime-services-unused", "firmware-fpu-left"],
        "",
    ),
    row(
        "a deadlock of CPUs that wait for each other with interrupts off",
        "a CPU that holds a lock waits for another CPU in one case only: during its turn at the console, it may wait \
             for the console's lock; a CPU that waits for a turn holds no lock and prints no kernel line, so the waits form \
             no cycle; wait loops check for a panicking CPU; there is no TLB shootdown",
        &["stress::call-counts-match-under-interrupt-stress", "panic::in-bring-up-*"],
        &[],
        "there is no mutant, because this is a rule for all code and not a single guard",
    ),
    row(
        "a write-back mapping of device registers or of the memory of system-management mode, next to memory",
        "the physical map has 4 KiB pages at the edges of memory, and pages that are only partly memory are not mapped; \
         firmware tables outside the memory map are mapped uncacheable; the kernel walks its own page tables and compares \
         each write-back page with the memory map",
        &["machine::*", "boot::uefi-smp-4", "kernel: frames::tests::range_is_covered_by_regions_that_adjoin"],
        &["memory-edges-rounded", "tables-cached"],
        "",
    ),
    row(
        "a page is both writable and executable",
        "the kernel walks its own page tables, the bring-up page tables, and those of each program",
        &["machine::no-page-writable-and-executable", "guard::write-text", "guard::write-alias"],
        &["text-writable", "text-alias-writable"],
        "",
    ),
];
