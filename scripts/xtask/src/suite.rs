//! The subcommand `test`: runs every check and every QEMU case. Prints one line for each and a summary line.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread::Builder;
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
    run: Box<dyn FnOnce() -> Result<(), String> + Send>,
    /// Whether the test spends most of its time waiting for a time limit of the kernel, so that other tests can run at
    /// the same time.
    waits: bool,
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

/// The number of waiting tests that run at the same time.
const WAITING_AT_ONCE: usize = 4;

/// A test that has run, and how long it took.
type Ended = (Result<(), String>, Duration);

/// Runs the tests one after the other, and prints in the format of Rust's own tests. Returns the number of failures.
///
/// A guest with more CPUs than the host has cores is slow even if nothing else runs, and the checks share cargo's lock.
/// Only the tests that wait run at the same time, when the first of them is due.
fn run_all(tests: Vec<Test>, left_out: usize) -> usize {
    let (total, started) = (tests.len(), Instant::now());
    let width = tests.iter().map(|test| test.name.chars().count()).max().unwrap_or(0);
    println!("\nrunning {total} test{}", if total == 1 { "" } else { "s" });
    let (mut failures, mut ignored) = (Vec::new(), 0);
    let mut times = Vec::new();
    let mut tests = VecDeque::from(tests);
    let mut waited = HashMap::new();
    while let Some(test) = tests.pop_front() {
        if test.waits && test.ignored.is_none() && !waited.contains_key(&test.name) {
            tests.push_front(test);
            waited = run_waiting(&mut tests);
            continue;
        }
        let Test { name, run, ignored: reason, .. } = test;
        print!("test {name:width$} ... ");
        if let Some(reason) = reason {
            println!("ignored, {reason}");
            ignored += 1;
            continue;
        }
        let (result, time) = waited.remove(&name).unwrap_or_else(|| timed(run));
        println!("{}", word(result.is_ok()));
        times.push((time, name.clone()));
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

/// Runs all waiting tests, several at the same time, and returns their results by name. The tests stay in the list.
fn run_waiting(tests: &mut VecDeque<Test>) -> HashMap<String, Ended> {
    let mut waiting: Vec<_> = tests.iter_mut().filter(|test| test.waits && test.ignored.is_none()).collect();
    let mut ended = HashMap::new();
    for group in waiting.chunks_mut(WAITING_AT_ONCE) {
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for test in group {
                let name = test.name.clone();
                let run =
                    std::mem::replace(&mut test.run, Box::new(|| Err("the test has already run".to_owned())));
                match Builder::new().spawn_scoped(scope, || timed(run)) {
                    Ok(thread) => threads.push((name, thread)),
                    Err(error) => {
                        ended.insert(name, (Err(format!("cannot start a thread: {error}")), Duration::ZERO));
                    }
                }
            }
            for (name, thread) in threads {
                let failed = |_| (Err("the test's thread panicked".to_owned()), Duration::ZERO);
                ended.insert(name, thread.join().unwrap_or_else(failed));
            }
        });
    }
    ended
}

/// Runs a test and measures its time.
fn timed(run: impl FnOnce() -> Result<(), String>) -> Ended {
    let start = Instant::now();
    let result = result(run);
    (result, start.elapsed())
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
        Test {
            name: check.name.to_owned(),
            run: Box::new(move || (check.run)(&log)),
            waits: false,
            ignored: None,
        }
    })
}

fn qemu_cases() -> impl Iterator<Item = Test> {
    let qemu = std::env::var_os("RINGSIDE_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
    // If there is no version, QEMU is missing. The cases report this.
    let version = machine::qemu::version(qemu.as_ref()).ok();
    cases::all().into_iter().map(move |case| Test {
        name: case.name.clone(),
        ignored: version.and_then(|version| case.reason_to_ignore(version)),
        waits: case.waits,
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
    use std::sync::{Arc, Barrier};

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
    fn waiting_tests_run_at_once() {
        // Each of the waiting tests ends only after all of them have begun.
        let barrier = Arc::new(Barrier::new(WAITING_AT_ONCE));
        let test = |n: usize, waits: bool| {
            let barrier = Arc::clone(&barrier);
            let run = move || {
                if waits {
                    barrier.wait();
                }
                if n == 3 { Err("why".to_owned()) } else { Ok(()) }
            };
            Test { name: format!("t{n}"), run: Box::new(run), waits, ignored: None }
        };
        let mut tests = (0..2 * WAITING_AT_ONCE).map(|n| test(n, n % 2 == 1)).collect();
        let results = run_waiting(&mut tests);
        assert_eq!((tests.len(), results.len()), (2 * WAITING_AT_ONCE, WAITING_AT_ONCE));
        assert_eq!((&results["t1"].0, &results["t3"].0), (&Ok(()), &Err("why".to_owned())));
    }

    #[test]
    fn panic_is_a_failure() {
        assert_eq!(result(|| Ok(())), Ok(()));
        assert_eq!(result(|| Err("why".to_owned())), Err("why".to_owned()));
        let panicked = result(|| std::panic::resume_unwind(Box::new("why")));
        assert_eq!(panicked, Err("the test panicked: why".to_owned()));
    }
}
