//! Cases that inject events at exact instructions. NMIs and debug exceptions are injected at all instructions of the
//! entry and exit paths. Machine checks, and NMIs that end the run, are injected only at some of them, because each needs
//! its own boot; `cargo xtask inject` without options injects all.

use super::{Case, Finished, case, expect};

/// Returns the cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, options: &str| {
        let mut case = case(format!("inject::{name}"), options, "");
        case.subcommand = "inject";
        case
    };
    vec![
        row("nmi", "--smp 3 --kind nmi --every 9")
            .demand(|finished| at_many_instructions(finished, "nmi", 200)),
        row("debug", "--smp 3 --kind db")
            .since((10, 0), "#DB directly after `sti`")
            .demand(|finished| at_many_instructions(finished, "debug", 150)),
        row("machine-check", "--smp 3 --kind mc --every 25")
            .demand(|finished| all_survived(finished, "machine_check")),
    ]
}

/// Checks that all injections were survived, and that they covered at least `least` instructions. The exact number
/// depends on the entry and exit code; the lower bound detects a tool that finds too few instructions.
fn at_many_instructions(finished: &Finished, kind: &str, least: u64) -> Result<(), String> {
    match finished.json[kind]["instructions"].as_u64() {
        Some(count) if count >= least => all_survived(finished, kind),
        count => Err(format!("{count:?} instructions instead of {least} or more")),
    }
}

/// Checks that at least one injection was required, and that all required injections were survived.
fn all_survived(finished: &Finished, kind: &str) -> Result<(), String> {
    let counts = &finished.json[kind];
    let required = counts["wanted"].as_u64().filter(|&count| count > 0).ok_or("no injection was required")?;
    expect(counts["stood"].as_u64(), Some(required), "survived injections")?;
    finished.has(&finished.stdout, "(100.0 %)")
}
