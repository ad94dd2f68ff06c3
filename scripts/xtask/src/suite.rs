//! The subcommand `test`: runs every check and every QEMU case. Prints one line for each and a summary line.

use std::any::Any;
use std::cmp::Reverse;
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use machine::build;
use machine::cargo::Show;
use machine::error::Error;
use output::{print, println};

use crate::cases;
use crate::cases::TIME_LIMIT;
use crate::checks::{CHECKS, built};
use crate::logs::{file_name, log_folder};

/// Options of `test`.
#[derive(Args, Clone, Debug)]
pub struct TestOptions {
    /// Runs the tests whose names contain one of these words. Default: all.
    pub filter: Vec<String>,

    /// Lists the names without running the tests.
    #[arg(long)]
    pub list: bool,
}

/// A check or a case. The error is a message for the user.
struct Test {
    name: String,
    run: Box<dyn FnOnce() -> Result<(), String>>,
    /// Why the installed QEMU cannot run the test, if it cannot.
    ignored: Option<String>,
}

/// Runs the tests that the filter selects. The last line is `N passed, N failed`, followed by the number of tests that
/// the installed QEMU cannot run, if there are any.
pub fn run(options: &TestOptions) -> Result<ExitCode, Error> {
    let selected = |test: &Test| {
        options.filter.is_empty() || options.filter.iter().any(|word| test.name.contains(word.as_str()))
    };
    let all: Vec<_> = checks().chain(qemu_cases()).collect();
    let count = all.len();
    let tests: Vec<_> = all.into_iter().filter(selected).collect();
    if tests.is_empty() {
        return Err(Error::Usage(format!("no test has {:?} in its name", options.filter.join(" or "))));
    }
    if options.list {
        tests.iter().for_each(|test| println!("{}: test", test.name));
        return Ok(ExitCode::SUCCESS);
    }
    let folder = log_folder();
    std::fs::create_dir_all(&folder).map_err(|error| Error::file("create", &folder, error))?;
    let (total, left_out) = (tests.len(), count - tests.len());
    let ignored = tests.iter().filter(|test| test.ignored.is_some()).count();
    let failures = run_all(tests, left_out);
    let rest = if ignored > 0 { format!(", {ignored} ignored") } else { String::new() };
    println!("{} passed, {failures} failed{rest}", total - failures - ignored);
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the tests one after the other, and prints in the format of Rust's own tests. Returns the number of failures.
///
/// A guest with more CPUs than the host has cores is slow even if nothing else runs, and the checks share cargo's lock.
fn run_all(tests: Vec<Test>, left_out: usize) -> usize {
    let (total, started) = (tests.len(), Instant::now());
    let width = tests.iter().map(|test| test.name.chars().count()).max().unwrap_or(0);
    println!("\nrunning {total} test{}", if total == 1 { "" } else { "s" });
    let (mut failures, mut ignored) = (Vec::new(), 0);
    let mut times = Vec::new();
    for Test { name, run, ignored: reason } in tests {
        print!("test {name:width$} ... ");
        if let Some(reason) = reason {
            println!("ignored, {reason}");
            ignored += 1;
            continue;
        }
        let start = Instant::now();
        let result = result(run);
        println!("{}", word(result.is_ok()));
        times.push((start.elapsed(), name.clone()));
        failures.extend(result.err().map(|error| (name, error)));
    }
    if !failures.is_empty() {
        println!("\nfailures:\n");
        failures.iter().for_each(|(name, error)| println!("---- {name} ----\n{error}\n"));
        println!("\nfailures:");
        failures.iter().for_each(|(name, _)| println!("    {name}"));
    }
    println!("\nslowest: {}", slowest(times));
    println!(
        "\ntest result: {}. {} passed; {} failed; {ignored} ignored; 0 measured; {left_out} filtered out; finished in {:.2}s\n",
        word(failures.is_empty()),
        total - failures.len() - ignored,
        failures.len(),
        started.elapsed().as_secs_f64()
    );
    failures.len()
}

/// Lists the slowest tests. The first test that needs a build includes its time.
fn slowest(mut times: Vec<(Duration, String)>) -> String {
    const SHOWN: usize = 10;
    times.sort_by_key(|&(time, _)| Reverse(time));
    let list = times.iter().take(SHOWN).map(|(time, name)| format!("{name} {:.1} s", time.as_secs_f64()));
    list.collect::<Vec<_>>().join(", ")
}

/// Runs a test. A panic counts as a failure of the test, so that the other tests still run.
fn result(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panic_message(&*panic)))
}

/// Returns `ok` or `FAILED`, in green or red on a terminal.
fn word(passed: bool) -> String {
    let (word, colour) = if passed { ("ok", 32) } else { ("FAILED", 31) };
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
        format!("\x1b[{colour}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the test panicked: {}", text.unwrap_or("see above"))
}

fn checks() -> impl Iterator<Item = Test> {
    CHECKS.iter().map(|check| {
        let log = log_folder().join(format!("{}.log", file_name(check.name)));
        Test { name: check.name.to_owned(), run: Box::new(move || (check.run)(&log)), ignored: None }
    })
}

fn qemu_cases() -> impl Iterator<Item = Test> {
    let qemu = std::env::var_os("RINGSIDE_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
    // If there is no version, QEMU is missing. The cases report this.
    let version = machine::qemu::version(qemu.as_ref()).ok();
    cases::all().into_iter().map(move |case| Test {
        name: case.name.clone(),
        ignored: version.and_then(|version| case.reason_to_ignore(version)),
        run: Box::new(move || {
            built().map_err(|error| format!("the build failed: {error}"))?;
            let kernel = match case.features {
                [] => None,
                features => {
                    let features: Vec<_> = features.iter().map(|&feature| feature.to_owned()).collect();
                    let built = build::with_features(&features, Show::Trouble);
                    Some(built.map_err(|error| error.to_string())?.kernel)
                }
            };
            case.run(&log_folder(), kernel.as_deref(), TIME_LIMIT)
        }),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_logs_are_unique() {
        let names: Vec<_> = checks().chain(qemu_cases()).map(|test| test.name).collect();
        let logs: HashSet<_> = names.iter().map(|name| file_name(name)).collect();
        assert_eq!(logs.len(), names.len());
    }

    #[test]
    fn slowest_tests_are_listed_first() {
        let times = (0..12).map(|n| (Duration::from_millis(100 * n), format!("t{n}"))).collect();
        let list = slowest(times);
        assert!(list.starts_with("t11 1.1 s, t10 1.0 s, "), "{list}");
        assert!(list.ends_with(", t2 0.2 s"), "{list}");
    }

    #[test]
    fn panic_is_a_failure() {
        assert_eq!(result(|| Ok(())), Ok(()));
        assert_eq!(result(|| Err("why".to_owned())), Err("why".to_owned()));
        let panicked = result(|| std::panic::resume_unwind(Box::new("why")));
        assert_eq!(panicked, Err("the test panicked: why".to_owned()));
    }
}
