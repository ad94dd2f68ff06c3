//! Strikes at the exact instruction: NMIs and debug exceptions at all of the road's, machine checks at some of them,
//! since each of those takes a boot. `cargo xtask inject` without options does the rest.

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
            .demand(|finished| all_stood(finished, "machine_check")),
    ]
}

/// All were stood, at so many instructions at the least: their number changes with the road, and a tool that found few
/// would have to fail.
fn at_many_instructions(finished: &Finished, kind: &str, least: u64) -> Result<(), String> {
    match finished.json[kind]["instructions"].as_u64() {
        Some(count) if count >= least => all_stood(finished, kind),
        count => Err(format!("struck instructions: {count:?}")),
    }
}

/// As many strikes as there have to be, and some at all.
fn all_stood(finished: &Finished, kind: &str) -> Result<(), String> {
    let strikes = &finished.json[kind];
    let wanted = strikes["wanted"].as_u64().filter(|&count| count > 0).ok_or("no strike is wanted")?;
    expect(strikes["stood"].as_u64(), Some(wanted), "strikes that were stood")?;
    finished.has(&finished.stdout, "(100.0 %)")
}
