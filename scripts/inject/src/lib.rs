//! The subcommand `inject`: stops a CPU at one instruction of the road between ring 3 and ring 0 after the other, lets
//! an NMI, a debug exception or a machine check strike exactly there, and looks at everything that must be as it was.
//!
//! [`code`] finds the instructions, [`paths`] the orders in which CPUs come to them, [`boots`] the machines that lead
//! there; [`trip`] goes through one of them, [`strike`] is the one strike, and [`tally`] counts. `docs/injection.md`
//! tells how it works and what it shows.
#![forbid(unsafe_code)]

mod boots;
mod code;
mod error;
mod finale;
mod guest;
mod nmis;
pub mod options;
mod paths;
mod plan;
mod registers;
mod rsp;
mod strike;
mod tally;
mod trip;
mod wires;

use std::process::ExitCode;
use std::time::Instant;

use machine::error::Error;
use serde_json::json;

use self::code::Code;
use self::error::InjectError;
use self::options::InjectOptions;
use self::plan::{Errand, Plan};
use self::tally::{Failure, Tally};
use self::trip::{Deed, Trip};

/// Strikes everywhere, or where the options say.
pub fn run(options: &InjectOptions) -> Result<ExitCode, Error> {
    let plan = Plan::make(options)?;
    if options.list {
        print!("{}", plan.list()?);
        return Ok(ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    'all: for &deed in options.deeds() {
        let errands = plan.errands(deed, options.every)?;
        tally.of(deed).wanted = plan.strikes(&errands)?;
        for (index, errand) in errands.iter().enumerate() {
            if let Err(failure) = go(&plan, errand, &mut tally) {
                let text = describe(&plan, errand, &failure);
                eprintln!("FAILED: {text}");
                failures.push(text);
                if !options.keep_going {
                    break 'all;
                }
            }
            if deed == Deed::MachineCheck && (index + 1) % 50 == 0 {
                println!("{} of {} machine checks", index + 1, errands.len());
            }
        }
    }
    if tally.is_empty() {
        return Err(Error::Usage("no instruction of that path is at that place".to_owned()));
    }
    println!("{}", tally.table(&plan.cpus));
    let whole = tally.is_whole() && failures.is_empty();
    println!("{}", summary(&tally, whole, started.elapsed().as_secs_f64()));
    for (name, why) in paths::UNREACHABLE {
        println!(
            "not reached: {name} ({} instructions): {why}",
            plan.code.function(name)?.instructions.len()
        );
    }
    write_json(options, &plan.code, &tally, &failures)?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One boot, from QEMU's start to its end.
fn go(plan: &Plan<'_>, errand: &Errand, tally: &mut Tally) -> Result<(), Failure> {
    let guest = plan.start(errand)?;
    let mut trip = Trip::new(guest, &plan.code, errand.deed, &errand.wish, tally)?;
    match errand.boot.go(&mut trip) {
        Ok(()) => Ok(finale::judge(trip, errand.boot)?),
        Err(mut failure) => {
            // What the kernel said when it ended too early is the better half of the reason.
            if let Ok((ended, console)) = trip.guest.end()
                && let Some(words) = finale::last_words(&ended, &console)
            {
                failure.error = InjectError::Wrong(format!("{}: {words}", failure.error));
            }
            Err(failure)
        }
    }
}

/// What failed, where, and how to see it again.
fn describe(plan: &Plan<'_>, errand: &Errand, failure: &Failure) -> String {
    let name = match errand.deed {
        Deed::Nmi => "NMI",
        Deed::Debug => "#DB",
        Deed::MachineCheck => "#MC",
    };
    let Some((path, cpu)) = failure.path else {
        return format!("{name}, boot {:?}: {}", errand.boot, failure.error);
    };
    let place = failure.address.map(|address| plan.code.place(address).to_string());
    let at = place.as_ref().map_or(String::new(), |place| format!(" at {place}"));
    let again = plan.options.replay(errand.deed, path, cpu, place);
    format!("{name}{at} on CPU {cpu}, path {path}: {}\nagain: {again}", failure.error)
}

fn summary(tally: &Tally, whole: bool, seconds: f64) -> String {
    let mut parts = Vec::new();
    for (name, strikes) in tally.kinds() {
        let (stood, wanted) = strikes.counts();
        if wanted > 0 {
            let percent = 100.0 * stood as f64 / wanted as f64;
            parts.push(format!(
                "{stood} of {wanted} {name} stood ({percent:.1} %), at {} instructions",
                strikes.instructions()
            ));
        }
    }
    format!("{}: {}; {seconds:.1} s", if whole { "pass" } else { "failed" }, parts.join(", "))
}

fn write_json(options: &InjectOptions, code: &Code, tally: &Tally, failures: &[String]) -> Result<(), Error> {
    let Some(path) = &options.json else { return Ok(()) };
    let unreachable: Vec<_> =
        paths::UNREACHABLE.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect();
    let value = json!({
        "nmi": tally.nmis.json(code),
        "debug": tally.debugs.json(code),
        "machine_check": tally.machine_checks.json(code),
        "failures": failures,
        "not_reached": unreachable,
    });
    let text = format!("{value:#}\n");
    if path.as_os_str() == "-" {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(path, text).map_err(|error| Error::file("write", path, error))
}
