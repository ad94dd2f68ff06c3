//! Cases with short runs of `hostile`, on CPU models and machine types on which its probes have different outcomes.

use super::{Case, Finished, case, expect};

/// Returns the cases. The seeds are fixed, so that failures are reproducible.
pub fn cases() -> Vec<Case> {
    let row = |name: &str, cpus, options: &str| {
        let mut case = case(format!("hostile::{name}"), options, "");
        case.subcommand = "hostile";
        // Versions between 7.2 and 10.0 have not been tried.
        let case = case.since((10, 0), "exact exceptions (docs/emulators.md)");
        case.exits_on(cpus).demand(every_probe_was_made)
    };
    vec![
        row("four-cpus", 4, "--smp 4 --rounds 64 --probes 60 --seed 1"),
        row("intel", 2, "--smp 2 --cpu max,vendor=GenuineIntel --rounds 48 --seed 2"),
        // This CPU model has no UMIP, SMEP or SMAP.
        row("qemu64", 2, "--smp 2 --cpu qemu64 --rounds 48 --seed 3"),
        row("pc", 2, "--smp 2 --machine pc --rounds 48 --seed 4"),
        row("checked-at-every-call", 2, "--smp 2 --rounds 48 --seed 5").checking(),
    ]
}

/// Checks that there are no unexpected outcomes, and that each CPU ran the requested number of probes.
fn every_probe_was_made(finished: &Finished) -> Result<(), String> {
    expect(finished.json["unexpected"].as_array().map(Vec::len), Some(0), "unexpected outcomes")?;
    let replay = finished.json["replay"].as_str().ok_or("no replay command")?;
    let option = |name: &str| replay.split_once(name)?.1.split(' ').next()?.parse::<u64>().ok();
    let (rounds, probes) = option("--rounds ").zip(option("--probes ")).ok_or("no counts")?;
    finished.cpus().iter().try_for_each(|cpu| {
        let classes = cpu["classes"].as_object().ok_or("no classes")?;
        let sum: u64 = classes.values().filter_map(|count| count.as_u64()).sum();
        expect(sum, rounds * (probes + 2) - 1, "probes")?;
        expect(classes.len(), 16, "classes")?;
        expect(cpu["starts"].as_u64(), Some(rounds), "starts")
    })
}
