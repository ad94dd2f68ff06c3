//! Short boots of `stress`: one as it comes, and one with all that can get in a system call's way.

use super::{Case, Finished, case, expect};

/// The cases. The seeds are fixed: a case that fails fails again.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, options: &str| {
        let mut case = case(format!("stress::{name}"), options, "");
        case.subcommand = "stress";
        case.demand(every_call_was_made)
    };
    vec![
        row("calls-agree-to-the-last", "--smp 4 --calls 2000 --seed 1"),
        row(
            "calls-agree-under-storms",
            "--smp 4 --calls 500 --seed 2 --tick-hz 1000 --ipi-storm 1000 --nmi-storm 1000 --one-insn",
        ),
        row(
            "a-serial-port-for-each-cpu",
            "--smp 6 --calls 500 --seed 3 --serial-dir target/test-logs/stress",
        ),
    ]
}

/// Each CPU made as many calls of the mix as it was told to, and its written lines came.
fn every_call_was_made(finished: &Finished) -> Result<(), String> {
    let boot = &finished.json["boots"][0];
    let wanted = boot["replay"].as_str().and_then(|text| text.split_once("--calls ")?.1.split(' ').next());
    let wanted: u64 = wanted.and_then(|number| number.parse().ok()).ok_or("no replay command")?;
    let cpus = boot["cpus"].as_array().ok_or("no CPUs")?;
    if cpus.len() < 4 {
        return Err(format!("only {} CPUs", cpus.len()));
    }
    cpus.iter().try_for_each(|cpu| {
        expect(cpu["calls"].as_u64(), Some(wanted), "calls of the mix")?;
        let lines = cpu["lines"].as_u64().unwrap_or(0);
        if lines > 0 { Ok(()) } else { Err("no line was written".to_owned()) }
    })
}
