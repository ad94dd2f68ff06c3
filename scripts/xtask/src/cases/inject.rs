//! Strikes at the exact instruction: NMIs at all of the road's, machine checks at some of them, since each of those
//! takes a boot. `cargo xtask inject` without options does the rest.

use super::{Case, Finished, case, expect};

/// Instructions that the road has at the least, less the stubs that nothing can enter. Their number changes with the
/// road; a tool that found none would have to fail.
const INSTRUCTIONS: u64 = 200;

/// The cases.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, options: &str| {
        let mut case = case(format!("inject::{name}"), options, "");
        case.subcommand = "inject";
        case
    };
    vec![
        row("nmi", "--smp 3 --kind nmi").demand(|finished| {
            let nmis = &finished.json["nmi"];
            match nmis["instructions"].as_u64() {
                Some(count) if count >= INSTRUCTIONS => all_stood(finished, "nmi"),
                count => Err(format!("struck instructions: {count:?}")),
            }
        }),
        row("machine-check", "--smp 3 --kind mc --every 25")
            .demand(|finished| all_stood(finished, "machine_check")),
    ]
}

/// As many strikes as there have to be, and some at all.
fn all_stood(finished: &Finished, kind: &str) -> Result<(), String> {
    let strikes = &finished.json[kind];
    let wanted = strikes["wanted"].as_u64().filter(|&count| count > 0).ok_or("no strike is wanted")?;
    expect(strikes["stood"].as_u64(), Some(wanted), "strikes that were stood")?;
    finished.has(&finished.stdout, "(100.0 %)")
}
