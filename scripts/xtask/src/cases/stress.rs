//! Cases with short boots of `stress`, among them one with the defaults and one with all interrupt sources.

use super::{Case, Finished, case, expect};

/// Returns the cases. The seeds are fixed, so that failures are reproducible.
pub fn cases() -> Vec<Case> {
    let case_of = |name: &str, options: &str| {
        let mut case = case(format!("stress::{name}"), &format!("{options} --no-report"), "");
        case.subcommand = "stress";
        case
    };
    let row = |name: &str, options: &str| case_of(name, options).demand(every_call_was_made);
    vec![
        row("call-counts-match", "--smp 4 --calls 2000 --seed 1"),
        row(
            "call-counts-match-under-interrupt-stress",
            "--smp 4 --calls 500 --seed 2 --tick-hz 1000 --ipi-storm 1000 --nmi-storm 1000 --one-insn",
        ),
        row(
            "a-serial-port-for-each-cpu",
            "--smp 6 --calls 500 --seed 3 --serial-dir target/test-logs/stress --trace off",
        ),
        case_of("progress-of-a-running-guest", "--smp 2 --seconds 3 --seed 4 --progress 1").demand(progress),
        // With tracing, each CPU's clock is synchronised with the BSP's, which is slow on a host with few cores.
        case_of("many-traced-cpus-come-online", "--smp 48 --memory 512M --calls 50 --seed 5").demand(
            |finished| expect(finished.json["boots"][0]["cpus"].as_array().map(Vec::len), Some(48), "CPUs"),
        ),
    ]
}

/// Checks that the progress of each CPU was reported while the guest ran, and that it increased.
fn progress(finished: &Finished) -> Result<(), String> {
    for cpu in ["CPU 0 ", "CPU 1 "] {
        let rows = finished.stderr.lines().filter_map(|line| line.trim_start().strip_prefix(cpu));
        // Each row has the number of calls, their rate, the number of ticks, and the latest event.
        let words = rows.map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
        let reported = words.filter_map(|words| match words[..] {
            [calls, "calls", rate, ticks, "ticks", _, ..] => {
                let rate = rate.strip_suffix("/s")?.parse::<u64>().ok()?;
                Some((calls.parse::<u64>().ok()?, rate, ticks.parse::<u64>().ok()?))
            }
            _ => None,
        });
        let reported: Vec<_> = reported.filter(|(calls, ..)| *calls > 0).collect();
        let sorted = reported.is_sorted_by(|before, after| before.0 <= after.0 && before.2 <= after.2);
        let grows = sorted && reported.first().map(|first| first.0) < reported.last().map(|last| last.0);
        if !grows || reported.iter().all(|(_, rate, _)| *rate == 0) {
            return Err(format!("the reported progress of {cpu}is {reported:?}\n{}", finished.stderr));
        }
    }
    Ok(())
}

/// Checks that each CPU made the requested number of calls, and that its numbered lines were received.
fn every_call_was_made(finished: &Finished) -> Result<(), String> {
    let boot = &finished.json["boots"][0];
    let requested = boot["replay"].as_str().and_then(|text| text.split_once("--calls ")?.1.split(' ').next());
    let requested: u64 = requested.and_then(|number| number.parse().ok()).ok_or("no replay command")?;
    let cpus = boot["cpus"].as_array().ok_or("no CPUs")?;
    if cpus.len() < 4 {
        return Err(format!("only {} CPUs", cpus.len()));
    }
    cpus.iter().try_for_each(|cpu| {
        expect(cpu["calls"].as_u64(), Some(requested), "calls from the mix")?;
        let lines = cpu["lines"].as_u64().unwrap_or(0);
        if lines > 0 { Ok(()) } else { Err("no line was written".to_owned()) }
    })
}
