//! Cases for guards that no other case tests. Each case fails on a kernel without the guard; see `docs/mutants.md`.

use super::{Case, case};

/// The arguments of `probe` and the exceptions that kill the program.
const REFUSED: [(&str, &str); 11] = [
    ("sgdt", "#GP"),
    ("sidt", "#GP"),
    ("sldt", "#GP"),
    ("str", "#GP"),
    ("smsw", "#GP"),
    ("rdpmc", "#GP"),
    ("wrgsbase", "#UD"),
    ("ldt", "#GP"),
    ("flags-fault", "#UD"),
    ("flags-debug", "#DB"),
    ("step-nested", "#DB"),
];

/// Protection violations that ring 0 commits on request, and the error codes of the resulting page faults (SDM 3A,
/// 4.7): bit 0, page present; bit 1, write; bit 4, instruction fetch.
const VIOLATIONS: [(&str, u32); 4] =
    [("write-text", 0b11), ("write-alias", 0b11), ("read-user", 0b1), ("run-user", 0b1_0001)];

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let refused = REFUSED.iter().map(|(kind, reason)| {
        let case = case(format!("guard::{kind}"), "--smp 2", &format!("probe {kind}"));
        let case = if *kind == "flags-debug" { case.since((10, 0), "#DB by `int1`") } else { case };
        case.status(1).killed_on(2, *reason)
    });
    let violations = VIOLATIONS.iter().map(|(kind, code)| {
        case(format!("guard::{kind}"), &format!("--smp 2 --cmdline breach={kind}"), "hello")
            .status(3)
            .complains(format!("panicked: page fault (#PF) in ring 0, error code {code:#x}"))
    });
    let nmis = "--smp 2 --tick-hz 1000 --cmdline nmi_storm=1000";
    let others = [
        case("guard::flags-exit", "--smp 2", "probe flags-exit").exits_on(2),
        case("guard::sysenter-intel", "--smp 2 --cpu max,vendor=GenuineIntel", "fault sysenter")
            .status(1)
            .killed_on(2, "#GP"),
        case("guard::gs-base-under-nmis", nmis, "probe gs-base").exits_on(2),
        case("guard::nmis-at-every-instruction", &format!("{nmis} {}", one_at_a_time()), "probe calls")
            .exits_on(2),
        case("guard::checked-at-every-call", "--smp 4", "selftest").checking().exits_on(4),
        stray("", "--smp 2"),
        stray("-xapic", "--smp 2 --cpu max,-x2apic"),
        nested_nmi("--smp 1", 1),
        nested_nmi("--smp 8", 8),
        nested_nmi("--smp 2 --cpu max,-x2apic", 2),
    ];
    refused.chain(violations).chain(others).collect()
}

/// A case in which each CPU takes an interrupt with each of the 235 vectors that the kernel does not use, and the
/// firmware has left a line of the I/O APIC unmasked.
fn stray(suffix: &str, options: &str) -> Case {
    let name = format!("guard::stray-interrupts{suffix}");
    let case = case(name, &format!("{options} --cmdline stray_interrupts=yes"), "selftest").exits_on(2);
    (0..2).fold(case, |case, cpu| {
        case.shows(format!(
            "[cpu{cpu}] ringside: warning: 235 interrupts with vectors that the kernel does not use: \
             0x10-0x11, 0x13-0x1f, 0x21-0xfc"
        ))
    })
}

/// A case in which each CPU sends itself an NMI from its NMI handler.
fn nested_nmi(options: &str, cpus: usize) -> Case {
    let apic = if options.contains("-x2apic") { "-xapic" } else { "" };
    (0..cpus).fold(
        case(
            format!("guard::nested-nmi-smp-{cpus}{apic}"),
            &format!("{options} --cmdline nest_nmi=yes"),
            "hello",
        )
        .exits_on(cpus),
        |case, cpu| {
            let held = "an NMI during an NMI was held back until the first had ended, and then taken";
            case.shows(format!("[cpu{cpu}] ringside: {held}: with NMIs masked"))
                .shows(format!("[cpu{cpu}] ringside: {held}: with NMIs unmasked in the handler"))
        },
    )
}

/// Returns QEMU's options for translation blocks of one instruction. QEMU takes interrupts only between blocks.
fn one_at_a_time() -> &'static str {
    let qemu = std::env::var_os("RINGSIDE_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
    // If there is no version, QEMU is missing. The case reports this.
    match machine::qemu::version(qemu.as_ref()) {
        Ok((major, _)) if major < 9 => "--qemu-arg=-singlestep",
        _ => "--accel tcg,one-insn-per-tb=on",
    }
}
