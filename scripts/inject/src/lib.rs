//! The subcommand `inject`: stops a CPU at each instruction of the kernel's entry and exit paths, one after the other.
//! At each instruction it injects an NMI, a debug exception or a machine check, and compares the CPU's state with the
//! expected one.
//!
//! [`code`] finds the instructions in the ELF, [`paths`] lists the execution paths through them, and [`boots`] lists
//! the boots that reach those paths. [`driver`] steers the CPUs of one boot along its paths, [`injector`] performs one
//! injection, and [`tally`] counts the results. `docs/injection.md` describes the method and its results.
#![forbid(unsafe_code)]

mod boots;
mod code;
mod driver;
mod error;
mod guest;
mod injector;
mod nmis;
pub mod options;
mod outcome;
mod paths;
mod plan;
mod process;
mod registers;
mod rsp;
mod tally;

use std::process::ExitCode;
use std::time::Instant;

use machine::error::Error;
use machine::verify::Outcome;
use output::{count, eprintln, print, println};
use serde_json::json;

use self::code::Code;
use self::driver::{Driver, Event};
use self::error::InjectError;
use self::guest::Guest;
use self::options::InjectOptions;
use self::plan::{Job, Plan};
use self::tally::{Failure, Tally};

/// Performs all injections that the options select, and prints the result.
pub fn run(options: &InjectOptions) -> Result<ExitCode, Error> {
    let plan = Plan::make(options)?;
    if options.list {
        print!("{}", plan.list()?);
        return Ok(ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    'all: for &event in options.events() {
        let jobs = plan.jobs(event, options.every)?;
        tally.of(event).required = plan.injections(&jobs)?;
        for (index, job) in jobs.iter().enumerate() {
            let words = plan.command_line(job)?;
            let guest = plan.start(words)?;
            if let Err(failure) = run_boot(&plan, job, guest, &mut tally) {
                let text = describe(&plan, job, &failure);
                eprintln!("FAILED: {text}");
                failures.push(text);
                if !options.keep_going {
                    break 'all;
                }
            }
            if event == Event::MachineCheck && (index + 1) % 50 == 0 {
                println!("{} of {} machine checks injected", index + 1, jobs.len());
            }
        }
    }
    if tally.is_empty() {
        return Err(Error::Usage("the path does not contain this instruction; see --list".to_owned()));
    }
    println!("{}", tally.table(&plan.cpus));
    let passed = tally.is_complete() && failures.is_empty();
    println!("{}", summary(&tally, passed, started.elapsed().as_secs_f64()));
    for (name, why) in paths::UNREACHABLE {
        println!(
            "not reached: {name} ({}): {why}",
            count(plan.code.function(name)?.instructions.len() as u64, "instruction")
        );
    }
    let outcome = if passed { Outcome::Pass } else { Outcome::Failed };
    Ok(outcome.and_written(write_json(options, &plan.code, &tally, &failures)).exit_code())
}

/// Runs one boot of a machine that has been started, until QEMU exits.
fn run_boot(plan: &Plan<'_>, job: &Job, guest: Guest, tally: &mut Tally) -> Result<(), Failure> {
    let mut driver = Driver::new(guest, &plan.code, job.event, &job.selection, tally)?;
    match job.boot.drive(&mut driver) {
        Ok(()) => Ok(outcome::check(driver, job.boot)?),
        Err(mut failure) => {
            // If the kernel panicked, its message names the cause.
            if let Ok((ended, console)) = driver.guest.end()
                && let Some(report) = outcome::kernel_report(&ended, &console)
            {
                failure.error = InjectError::Mismatch(format!("{}: {report}", failure.error));
            }
            Err(failure)
        }
    }
}

/// Formats a failure: what failed, where, and the command that reproduces it.
fn describe(plan: &Plan<'_>, job: &Job, failure: &Failure) -> String {
    let name = match job.event {
        Event::Nmi => "NMI",
        Event::Debug => "#DB",
        Event::MachineCheck => "#MC",
    };
    let Some((path, cpu)) = failure.path else {
        return format!("{name}, boot {:?}: {}", job.boot, failure.error);
    };
    let place = failure.address.map(|address| plan.code.place(address).to_string());
    let at = place.as_ref().map_or(String::new(), |place| format!(" at {place}"));
    let replay = plan.options.replay(job.event, path, cpu, place);
    format!("{name}{at} on CPU {cpu}, path {path}: {}\nreproduce with: {replay}", failure.error)
}

fn summary(tally: &Tally, passed: bool, seconds: f64) -> String {
    let mut parts = Vec::new();
    for (name, injections) in tally.kinds() {
        let (survived, required) = injections.counts();
        if required > 0 {
            let percent = 100.0 * survived as f64 / required as f64;
            parts.push(format!(
                "{survived} of {} survived ({percent:.1} %), at {}",
                count(required as u64, &format!("{name} injection")),
                count(injections.instructions() as u64, "instruction")
            ));
        }
    }
    format!("{}: {}; {seconds:.1} s", if passed { "pass" } else { "failed" }, parts.join(", "))
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
    output::write(path, text).map_err(|error| Error::file("write", path, error))
}
