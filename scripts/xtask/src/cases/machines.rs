//! The self-test on many kinds of machine.

use super::{Case, case};

/// The cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, options: &str, cpus| {
        case(format!("machine::{name}"), options, "selftest").exits_on(cpus)
    };
    vec![
        row("smp-1", "--smp 1", 1),
        row("smp-2", "--smp 2", 2),
        row("smp-3", "--smp 3", 3),
        row("smp-4", "--smp 4", 4),
        row("smp-8", "--smp 8", 8),
        row("smp-16", "--smp 16", 16),
        row("q35", "--machine q35 --smp 2", 2),
        row("pc", "--machine pc --smp 2", 2),
        row("cpu-max", "--cpu max --smp 2", 2),
        row("cpu-xapic", "--cpu max,-x2apic --smp 2", 2).demand(|finished| {
            super::expect(finished.json["boot"]["x2apic"].as_bool(), Some(false), "x2APIC mode")
        }),
        row("cpu-intel", "--cpu max,vendor=GenuineIntel --smp 2", 2),
        row("cpu-qemu64", "--cpu qemu64 --smp 2", 2),
        row("memory-128M", "--memory 128M --smp 2", 2),
        row("memory-4G", "--memory 4G --smp 2", 2).demand(|finished| {
            let kib = finished.json["boot"]["memory_kib"].as_u64().unwrap_or(0);
            if kib > 4_000_000 { Ok(()) } else { Err(format!("only {kib} KiB of 4 GiB are usable")) }
        }),
        // Six CPUs that the firmware lists but that are not there: they must not be waited for.
        row("smp-2-of-8", "--smp 2,maxcpus=8", 2).demand(|finished| {
            super::expect(finished.json["boot"]["cpus_found"].as_u64(), Some(2), "CPUs found")
        }),
        // APIC ids with gaps: an id is no index.
        row("sparse-apic-ids", "--smp 6,sockets=2,cores=3", 6).demand(|finished| {
            let ids: Vec<_> = finished.cpus().iter().filter_map(|cpu| cpu["apic_id"].as_u64()).collect();
            if ids.iter().any(|&id| id > 5) { Ok(()) } else { Err(format!("no gaps in APIC ids {ids:?}")) }
        }),
        row("tick-1000-hz", "--tick-hz 1000 --smp 2", 2),
        row("icount", "--icount --smp 2", 2),
        row("no-page-writable-and-executable", "--smp 4", 4).shows("none writable and executable"),
    ]
}
