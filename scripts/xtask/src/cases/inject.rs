//! Injections at exact instructions: NMIs and debug exceptions at all instructions of the entry and exit paths, machine
//! checks at every 25th, since each of those takes a boot. `cargo xtask inject` without options makes all.

use super::{Case, Finished, case, expect};

/// The cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, options: &str| {
        let mut case = case(format!("inject::{name}"), options, "");
        case.subcommand = "inject";
        case
    };
    vec![
        row("nmi", "--smp 3 --kind nmi").demand(|finished| at_many_instructions(finished, "nmi", 200)),
        row("debug", "--smp 3 --kind db").demand(|finished| at_many_instructions(finished, "debug", 150)),
        row("machine-check", "--smp 3 --kind mc --every 25")
            .demand(|finished| all_survived(finished, "machine_check")),
    ]
}

/// Checks that all injections were survived, at `least` instructions or more: the number changes with the entry and
/// exit code, but a tool that found only a few would have to fail.
fn at_many_instructions(finished: &Finished, kind: &str, least: u64) -> Result<(), String> {
    match finished.json[kind]["instructions"].as_u64() {
        Some(count) if count >= least => all_survived(finished, kind),
        count => Err(format!("{count:?} instructions instead of {least} or more")),
    }
}

/// Checks that every required injection was survived, and that there is at least one.
fn all_survived(finished: &Finished, kind: &str) -> Result<(), String> {
    let counts = &finished.json[kind];
    let required = counts["wanted"].as_u64().filter(|&count| count > 0).ok_or("no injection was required")?;
    expect(counts["stood"].as_u64(), Some(required), "survived injections")?;
    finished.has(&finished.stdout, "(100.0 %)")
}
