//! Cases with invalid ACPI tables. The kernel corrupts the firmware's tables before it reads them, prints a message for
//! each fault, and continues with the CPUs that it knows of.

use super::{Case, case};

/// The faults after which the kernel knows only of the BSP, and the kernel's messages.
const ONE_CPU: [(&str, &str); 8] = [
    ("no-rsdp", "the loader gave no ACPI root pointer (RSDP)"),
    ("rsdp-checksum", " has a wrong checksum"),
    ("root-checksum", " has a wrong checksum"),
    ("no-madt", "the firmware has no ACPI MADT"),
    ("madt-checksum", " has a wrong checksum"),
    ("madt-length", " bytes"),
    ("madt-entry", "the entry at offset 0, type 0, is only 0 bytes long"),
    ("madt-no-cpu", "the firmware's list of CPUs (ACPI MADT) is empty"),
];

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let broken = |fault: &str, options: &str| {
        case(format!("firmware::{fault}"), &format!("{options} --cmdline firmware_fault={fault}"), "selftest")
    };
    // The tables are missing on a real machine type.
    let missing = case("firmware::none", "--machine microvm,acpi=off --smp 4", "selftest")
        .exits_on(1)
        .complains("warning: the loader gave no ACPI root pointer (RSDP); continuing with one CPU");
    let one_cpu = ONE_CPU.map(|(fault, sentence)| {
        broken(fault, "--smp 4")
            .exits_on(1)
            .complains("warning: ")
            .complains(format!("{sentence}; continuing with one CPU"))
    });
    let others = [
        missing,
        broken("madt-no-bsp", "--smp 4")
            .exits_on(4)
            .complains("does not contain the BSP, APIC id 0; continuing with it as CPU 0"),
        // The firmware's tables lie in memory that the memory map lists.
        case("firmware::uefi", "--boot uefi --smp 2 --cmdline firmware_fault=madt-checksum", "selftest")
            .exits_on(1)
            .complains(" has a wrong checksum; continuing with one CPU"),
    ];
    one_cpu.into_iter().chain(others).collect()
}
