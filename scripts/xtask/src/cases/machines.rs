//! Cases that run the self-test on many kinds of machines.

use std::collections::BTreeSet;

use kernel_abi::cpu_state::{REGISTERS, Rule};

use super::{Case, Finished, case};

/// The CPU features without which the kernel does not start: QEMU's names and the kernel's.
const FEATURES: [(&str, &str); 15] = [
    ("fpu", "FPU"),
    ("tsc", "TSC"),
    ("msr", "MSR"),
    ("pae", "PAE"),
    ("mce", "MCE"),
    ("apic", "APIC"),
    ("sep", "SEP"),
    ("cmov", "CMOV"),
    ("pat", "PAT"),
    ("fxsr", "FXSR"),
    ("sse", "SSE"),
    ("sse2", "SSE2"),
    ("syscall", "SYSCALL"),
    ("nx", "NX"),
    ("lm", "64-bit mode"),
];

/// Cases with machines that cannot run the kernel. The kernel's message names what is missing.
pub fn lacking() -> Vec<Case> {
    let without = |name: String, options: &str, message: String| {
        case(name, options, "hello").status(3).complains(format!("CPU 0 panicked: {message}"))
    };
    let features = FEATURES.map(|(option, feature)| {
        let message = format!("this CPU lacks {feature}: choose -cpu qemu64 or -cpu max");
        without(format!("lacking::{option}"), &format!("--smp 1 --cpu max,-{option}"), message)
    });
    let several = "this CPU lacks SSE, SSE2, NX: choose".to_owned();
    // With `--memory` the host tool would reject this size.
    let mut memory = without(
        "lacking::memory".to_owned(),
        "--smp 1 --qemu-arg=-readconfig --qemu-arg=target/test-logs/lacking-memory.cfg",
        "the machine has too little memory for the kernel image: give it at least 4 MiB".to_owned(),
    );
    memory.prepare =
        Some(|folder| output::write(folder.join("lacking-memory.cfg"), "[memory]\n  size = \"3000K\"\n"));
    let for_cpus = case("lacking::memory-for-cpus", "--smp 64 --memory 5M", "hello")
        .status(3)
        .complains("CPU 0 panicked: cannot start 63 other CPUs: each needs");
    let for_copies = case("lacking::memory-for-copies", "--smp 64 --memory 9M", "hello")
        .status(1)
        .complains("give the machine more: the copies on 64 CPUs need at least 9 MiB of usable memory");
    let others = [
        without("lacking::several".to_owned(), "--smp 1 --cpu max,-sse,-sse2,-nx", several),
        memory,
        for_cpus,
        for_copies,
    ];
    features.into_iter().chain(others).collect()
}

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, options: &str, cpus| {
        case(format!("machine::{name}"), options, "selftest").exits_on(cpus)
    };
    vec![
        row("smp-1", "--smp 1", 1).demand(|finished| {
            let time = &finished.json["boot"]["bring_up_ns"];
            if time.is_null() { Ok(()) } else { Err(format!("one CPU has a bring-up of {time} ns")) }
        }),
        row("smp-2", "--smp 2", 2),
        row("smp-3", "--smp 3", 3),
        // The time includes the 10 ms between INIT and the start-up IPI.
        row("smp-4", "--smp 4", 4).demand(|finished| match finished.json["boot"]["bring_up_ns"].as_u64() {
            Some(10_000_000..10_000_000_000) => Ok(()),
            time => Err(format!("the bring-up took {time:?} ns")),
        }),
        row("smp-8", "--smp 8", 8),
        row("smp-16", "--smp 16", 16),
        row("q35", "--machine q35 --smp 2", 2),
        row("pc", "--machine pc --smp 2", 2),
        row("cpu-max", "--cpu max --smp 2", 2),
        row("cpu-xapic", "--cpu max,-x2apic --smp 2", 2).demand(in_xapic_mode),
        row("cpu-intel", "--cpu max,vendor=GenuineIntel --smp 2", 2),
        row("cpu-qemu64", "--cpu qemu64 --smp 2", 2),
        row("memory-128M", "--memory 128M --smp 2", 2),
        row("memory-4G", "--memory 4G --smp 2", 2).demand(|finished| {
            let kib = finished.json["boot"]["memory_kib"].as_u64().unwrap_or(0);
            if kib > 4_000_000 { Ok(()) } else { Err(format!("only {kib} KiB of 4 GiB are usable")) }
        }),
        // The firmware lists six CPUs that do not exist. The kernel must not wait for them.
        row("smp-2-of-8", "--smp 2,maxcpus=8", 2).demand(|finished| {
            super::expect(finished.json["boot"]["cpus_found"].as_u64(), Some(2), "CPUs found")
        }),
        // The APIC ids have gaps, so they differ from the CPU indices.
        row("sparse-apic-ids", "--smp 6,sockets=2,cores=3", 6).demand(|finished| {
            let ids: Vec<_> = finished.cpus().iter().filter_map(|cpu| cpu["apic_id"].as_u64()).collect();
            if ids.iter().any(|&id| id > 5) { Ok(()) } else { Err(format!("no gaps in APIC ids {ids:?}")) }
        }),
        // Without leaf 0xB, CPUID reports only the low 8 bits of the APIC id: ids 1 and 257 are both reported as 1.
        row(
            "apic-id-wider-than-in-cpuid",
            "--smp 2,sockets=3,cores=128,maxcpus=384 --memory 512M --cpu max,cpuid-0xb=off --qemu-arg=-device \
             --qemu-arg=max-x86_64-cpu,socket-id=2,core-id=1,thread-id=0,cpuid-0xb=off",
            3,
        )
        .with_x2apic()
        .shows("warning: CPU 2 has a local APIC with APIC id 257, but its CPUID reports APIC id 1"),
        // The APICs of all CPUs must be in the same mode (SDM 3A, 11.12.5): the BSP's.
        row(
            "one-cpu-with-x2apic",
            "--smp 1,sockets=2,maxcpus=2 --cpu max,x2apic=off --qemu-arg=-device \
             --qemu-arg=max-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,x2apic=on",
            2,
        )
        .demand(in_xapic_mode),
        // Features that the BSP lacks are used on no CPU. CR4 is compared.
        row(
            "one-cpu-with-more-features",
            "--smp 1,sockets=2,maxcpus=2 --cpu max,smap=off,smep=off,umip=off,rdtscp=off,rdpid=off \
             --qemu-arg=-device --qemu-arg=max-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,smap=on,smep=on,\
             umip=on,rdtscp=on,rdpid=on",
            2,
        ),
        clock("hpet", "q35,pit=off", "the HPET", "kHz by the ACPI power-management timer"),
        clock("pm-timer", "pc,hpet=off", "the ACPI power-management timer", "kHz by the interval timer (PIT)"),
        clock(
            "pm-timer-alone",
            "q35,hpet=off,pit=off",
            "the ACPI power-management timer",
            "no second clock checks it",
        ),
        // A machine with no HPET and no power-management timer.
        clock("pit", "microvm", "the interval timer (PIT)", "no second clock checks it"),
        case("machine::clock-none", "--machine microvm,pit=off --smp 2", "selftest")
            .status(3)
            .complains("this machine has no clock to measure the TSC against"),
        without("smp-1", "--smp 1", 1),
        without("smp-4", "--smp 4", 4),
        row("without-x2apic", "--smp 3 --cmdline without=x2apic", 3)
            .with_x2apic()
            .shows("unused, although the CPU has them: x2APIC; all CPUs have CR4=0x300e60, ")
            .demand(in_xapic_mode),
        row("least-memory", "--memory 4M --smp 2", 2),
        row("tick-1000-hz", "--tick-hz 1000 --smp 2", 2),
        row("icount", "--icount --smp 2", 2),
        row("dump-cpus-smp-4", "--smp 4 --dump-cpus", 4).demand(|finished| each_cpu_has_its_own(finished, 4)),
        row("dump-cpus-xapic-pc", "--smp 3 --dump-cpus --machine pc --cpu qemu64", 3)
            .demand(|finished| each_cpu_has_its_own(finished, 3)),
        // Register values that firmware may leave: a breakpoint at the entry of system calls, an old machine check,
        // interrupts in service and pending, and a task priority that blocks the tick.
        row("stale-registers", "--smp 3 --dump-cpus --cmdline stale_ap=2", 3)
            .shows(
                "[cpu2] ringside: warning: APIC id 2 had a machine check before the boot, which is cleared: \
                 bank 1, status 0x8000000000000151",
            )
            .hides("#DB in ring 0")
            .shows(
                "[cpu2] ringside: interrupts from before the setup are discarded: 1 in service, 2 pending 0x31, 0x51",
            )
            .hides("that the kernel does not use")
            .demand(|finished| {
                finished.cpus().iter().try_for_each(|cpu| {
                    super::expect(cpu["registers"]["DR7"].as_str(), Some("0x400"), "DR7")
                })
            }),
        // A hypervisor hides that the TSC is invariant; without one, QEMU's is not.
        row("tsc-not-invariant", "--smp 2 --cpu max,-hypervisor", 2)
            .shows("warning: CPU 0 has no invariant TSC: "),
        row("no-page-writable-and-executable", "--smp 4", 4).shows("none is both writable and executable"),
    ]
}

/// A case in which this clock gives the rate of the TSC. `rest` is the part of the console line that describes the
/// second clock.
fn clock(name: &str, machine: &str, used: &str, rest: &'static str) -> Case {
    case(format!("machine::clock-{name}"), &format!("--machine {machine} --smp 2"), "selftest")
        .exits_on(2)
        .hides("two clocks disagree")
        .shows(format!(" kHz by {used}"))
        .shows_line("[cpu0] ringside: TSC: ".to_owned(), rest)
}

/// A case in which the kernel leaves SMEP, SMAP and UMIP unused.
fn without(name: &str, options: &str, cpus: usize) -> Case {
    let options = format!("{options} --dump-cpus --cmdline without=smap,smep,umip");
    case(format!("machine::without-smap-smep-umip-{name}"), &options, "selftest")
        .exits_on(cpus)
        .shows("unused, although the CPU has them: SMEP, SMAP, UMIP; all CPUs have CR4=0x660, ")
        .demand(cr4_has_no_optional_feature)
}

/// Checks CR4 of each CPU, as the CPU printed it.
fn cr4_has_no_optional_feature(finished: &Finished) -> Result<(), String> {
    /// UMIP, SMEP and SMAP (SDM 3A, 2.5).
    const BITS: u64 = 1 << 11 | 1 << 20 | 1 << 21;
    finished.cpus().iter().try_for_each(|cpu| {
        let text = cpu["registers"]["CR4"].as_str().unwrap_or("");
        let digits = text.strip_prefix("0x").unwrap_or(text);
        match u64::from_str_radix(digits, 16) {
            Ok(cr4) if cr4 & BITS == 0 => Ok(()),
            _ => Err(format!("CR4 is {text:?}, but must not have UMIP, SMEP or SMAP")),
        }
    })
}

/// Checks that the kernel used the local APICs in xAPIC mode.
fn in_xapic_mode(finished: &Finished) -> Result<(), String> {
    super::expect(finished.json["boot"]["x2apic"].as_bool(), Some(false), "x2APIC mode")
}

/// Checks that each register in the JSON differs between all CPUs or is equal on all CPUs, as the rules require.
fn each_cpu_has_its_own(finished: &Finished, cpus: usize) -> Result<(), String> {
    for (name, rule) in REGISTERS {
        let values: Vec<_> =
            finished.cpus().iter().filter_map(|cpu| cpu["registers"][name].as_str()).collect();
        super::expect(values.len(), cpus, name)?;
        let different = values.iter().collect::<BTreeSet<_>>().len();
        super::expect(different, if rule == Rule::Own { cpus } else { 1 }, name)?;
    }
    finished.has(&finished.stdout, "CPU 2, APIC id 2\n  TR             0x0000000000000028")
}
