//! Hazards of bring-up, of several CPUs, and of time.

use super::{Hazard, row};

/// The rows.
pub const BRING_UP: &[Hazard] = &[
    row(
        "a CPU that is lost, late, or started twice",
        "a bounded wait, slots that are closed, one claim per slot; a late AP parks",
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
        "an AP that takes another CPU's APIC id for its own",
        "it reads the id from its own APIC, in the mode of the BSP's; what CPUID reports is compared, a \
         difference is a warning",
        &[
            "ap_trampoline: tests::arrival::apic_enters_x2apic_mode_before_it_is_asked_for_its_id",
            "ap_trampoline: tests::arrival::apic_stays_in_xapic_mode_where_the_bsp_is_in_it",
            "machine::apic-id-wider-than-in-cpuid",
        ],
        &["apic-id-from-cpuid"],
        "",
    ),
    row(
        "a CPU enters or leaves the run before the others are ready",
        "gates with release and acquire",
        &["kernel: sync::loom_tests::loom_gate_opens_after_all_arrivals"],
        &["gate-arrive-relaxed", "gate-open-relaxed"],
        "",
    ),
    row(
        "a MADT with disabled, duplicate, sparse, wide, malformed or endless entries",
        "a pure parser; its table is validated before anything else reads it",
        &[
            "kernel: topology::tests::which_entries_are_cpus",
            "kernel: topology::tests::invalid_tables_are_rejected",
            "check::fuzz",
            "machine::smp-2-of-8",
            "machine::sparse-apic-ids",
        ],
        &["madt-any-flags"],
        "",
    ),
    row(
        "control registers that differ between CPUs",
        "one function writes complete values on all; they are compared before ring 3 runs",
        &["machine::smp-2", "machine::dump-cpus-*", "guard::write-text"],
        &["ap-without-wp", "wp-off"],
        "",
    ),
    row(
        "xAPIC taken for x2APIC or the other way round",
        "the mode is set before a register is touched, and compared on all CPUs; APIC's global enable is never \
         cleared",
        &["machine::cpu-xapic", "machine::cpu-qemu64", "machine::cpu-max", "machine::one-cpu-without-x2apic"],
        &[],
        "there is no mutant: it would not boot",
    ),
    row(
        "the timer's frequency assumed; ticks lost on a busy host",
        "measured against the ACPI timer or the PIT and repeated; durations are measured by the clock, not \
         by ticks",
        &["machine::tick-1000-hz", "machine::icount", "kernel: clock::tests::*"],
        &[],
        "TCG's timer has one fixed frequency, so a wrong constant would show only on other machines; the \
         arithmetic is tested on the host",
    ),
    row(
        "CPUs that wait for each other with interrupts off",
        "no lock is held across a wait; wait loops check for a panicking CPU. There is no TLB shootdown",
        &["stress::calls-agree-under-storms", "panic::in-bring-up-*"],
        &[],
        "a rule for all code, with no single place to remove",
    ),
    row(
        "a page that is writable and executable, the trampoline's included",
        "walks over the kernel's, the bring-up's and the programs' tables",
        &["machine::no-page-writable-and-executable", "guard::write-text", "guard::write-alias"],
        &["text-writable", "text-alias-writable"],
        "",
    ),
];
