//! The executed instructions of one round trip from ring 3 and back, from QEMU's execution log.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use iced_x86::{FlowControl, Mnemonic};
use machine::error::Error;
use machine::{build, qemu, tree};

use super::elf::Elf;
use super::log;
use super::phase::{SYSCALL, Start, TICK};
use super::rows::{self, Row};

/// The round trips that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trip {
    /// A null system call.
    Null,
    /// A timer tick in ring 3.
    Tick,
}

/// The modules whose functions QEMU logs. Functions that they call are added when the log shows that they are missing.
const MODULES: [&str; 3] = ["kernel::arch::entry::", "kernel::arch::exit::points::", "kernel::syscall::"];
/// The maximum number of boots, each with more functions in the log.
const BOOTS_MAX: usize = 8;
/// Ranges whose distance is at most this many bytes are logged as one.
const GAP_MAX: u64 = 0x100;
/// The bytes of `syscall`.
const SYSCALL_BYTES: [u8; 2] = [0x0f, 0x05];
/// The environment variable with QEMU's name.
const QEMU: (&str, &str) = ("RINGSIDE_QEMU", "qemu-system-x86_64");
/// The file with the tables for the documentation.
pub const PAGE: &str = "docs/performance.md";

impl Trip {
    /// All round trips.
    pub const ALL: [Trip; 2] = [Trip::Null, Trip::Tick];

    /// The name, as in the option.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Trip::Null => "null",
            Trip::Tick => "tick",
        }
    }

    /// The program with its arguments: 100 calls, or 5 ticks.
    const fn program(self) -> &'static str {
        match self {
            Trip::Null => "roundtrip 100",
            Trip::Tick => "roundtrip 1 5",
        }
    }

    const fn phases(self) -> &'static [Start] {
        match self {
            Trip::Null => &SYSCALL,
            Trip::Tick => &TICK,
        }
    }

    /// The entry point in the kernel.
    const fn entry(self) -> &'static str {
        self.phases()[0].0
    }

    /// Returns the number of instructions that the program has measured in the same boot.
    fn measured(self, stdout: &str) -> Option<String> {
        let text = match self {
            Trip::Null => stdout
                .lines()
                .filter(|line| line.contains("calls, "))
                .find(|line| line.ends_with("subtracted"))?,
            Trip::Tick => stdout.lines().find(|line| line.contains("timer ticks, at least "))?,
        };
        let after = if self == Trip::Null { "calls, " } else { "at least " };
        Some(text.split_once(after)?.1.split(' ').next()?.to_owned())
    }
}

/// The instructions of a round trip.
pub struct Path {
    /// The instructions, in order of execution.
    pub rows: Vec<Row>,
    /// How many identical round trips the log contains.
    pub times: usize,
}

/// Boots the kernel as it is built, and returns the instructions of a round trip.
///
/// # Errors
/// If a boot fails, or if the log differs from the number of instructions that the program measures in the same boot.
pub fn find(trip: Trip) -> Result<Path, Error> {
    let kernel = Elf::load(&build::kernel_path())?;
    let program = trip.program().split(' ').next().unwrap_or_default();
    let user = Elf::load(&tree::bare_artifacts().join(program))?;
    let mut logged: BTreeSet<u64> = BTreeSet::new();
    for function in &kernel.functions {
        if MODULES.iter().any(|module| function.name.starts_with(module)) {
            logged.insert(function.range.start);
        }
    }
    for _ in 0..BOOTS_MAX {
        let (text, measured) = boot(trip, &filter(&kernel, &user, &logged))?;
        let addresses = log::addresses(&text);
        let (path, times) = choose(trip, &kernel, &addresses)?;
        match missing(&kernel, path)? {
            Some(function) => {
                logged.insert(function);
            }
            None if path.len().to_string() != measured.trim_end_matches(".00") => {
                return Err(Error::Host(format!(
                    "QEMU's log has {} instructions, but the program has measured {measured}",
                    path.len()
                )));
            }
            None => return Ok(Path { rows: rows::rows(&kernel, &user, path, trip.phases())?, times }),
        }
    }
    Err(Error::Host(format!("after {BOOTS_MAX} boots the log still lacks a function")))
}

/// Returns the most frequent round trip in the log.
fn choose<'a>(trip: Trip, kernel: &Elf, addresses: &'a [u64]) -> Result<(&'a [u64], usize), Error> {
    let entry = kernel.named(trip.entry())?.range.start;
    let exit = kernel.named("iret_to_user")?;
    let mnemonic = |address| kernel.instruction(address).map(|instruction| instruction.mnemonic());
    let is_return = |address| matches!(mnemonic(address), Some(Mnemonic::Sysretq | Mnemonic::Iretq));
    let is_wanted = |path: &[u64]| match trip {
        // The first instruction is the program's `syscall`.
        Trip::Null => path.len() > 1 && path[0] < entry && path[1] == entry,
        Trip::Tick => path[0] == entry && path.last().is_some_and(|last| exit.range.contains(last)),
    };
    let found = log::most_frequent(addresses, is_return, is_wanted);
    found.ok_or_else(|| Error::Host(format!("QEMU's log has no round trip through {}", trip.entry())))
}

/// Returns the start of a function that was called, but is not in the log.
fn missing(kernel: &Elf, path: &[u64]) -> Result<Option<u64>, Error> {
    for pair in path.windows(2) {
        let Some(instruction) = kernel.instruction(pair[0]) else { continue };
        let target = match instruction.flow_control() {
            FlowControl::Next => instruction.next_ip(),
            FlowControl::Call | FlowControl::UnconditionalBranch => instruction.near_branch_target(),
            FlowControl::ConditionalBranch if pair[1] == instruction.next_ip() => continue,
            FlowControl::ConditionalBranch => instruction.near_branch_target(),
            _ => continue,
        };
        if pair[1] != target {
            let function = kernel.function(target);
            return function.map(|function| Some(function.range.start)).ok_or_else(|| {
                Error::Host(format!("{target:#x} was executed, but is in no function of the kernel"))
            });
        }
    }
    Ok(None)
}

/// Returns the address ranges for QEMU's option `-dfilter`.
fn filter(kernel: &Elf, user: &Elf, logged: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let functions = kernel.functions.iter().filter(|function| logged.contains(&function.range.start));
    for range in functions.map(|function| function.range.clone()) {
        match ranges.last_mut().filter(|last| range.start <= last.end + GAP_MAX) {
            Some(last) => last.end = last.end.max(range.end),
            None => ranges.push(range),
        }
    }
    let calls = user.find(&SYSCALL_BYTES).into_iter().map(|address| address..address + 2);
    let ranges = calls.chain(ranges).map(|range| format!("{:#x}..{:#x}", range.start, range.end - 1));
    ranges.collect::<Vec<_>>().join(",")
}

/// Boots the program. Returns QEMU's log, and the number of instructions that the program has measured.
fn boot(trip: Trip, filter: &str) -> Result<(String, String), Error> {
    let folder = tempfile::tempdir();
    let folder = folder.map_err(|error| Error::File("cannot create a directory".to_owned(), error))?;
    let file = folder.path().join("log");
    let qemu = std::env::var_os(QEMU.0).map_or_else(|| PathBuf::from(QEMU.1), PathBuf::from);
    // A block of one instruction each: an option of the accelerator since QEMU 8.1.
    let single = qemu::version(&qemu)? < (8, 1);
    let accel = if single { "tcg,thread=single" } else { "tcg,thread=single,one-insn-per-tb=on" };
    let mut words = vec![
        "run",
        "--as-built",
        "--smp",
        "1",
        "--tick-hz",
        "1000",
        "--cpu",
        "max,-x2apic",
        "--accel",
        accel,
    ];
    words.extend([
        "--qemu-arg=-icount",
        "--qemu-arg=shift=0,sleep=off",
        "--qemu-arg=-d",
        "--qemu-arg=exec,nochain",
    ]);
    if single {
        words.push("--qemu-arg=-singlestep");
    }
    let log = format!("--qemu-arg={}", file.display());
    let filter = format!("--qemu-arg={filter}");
    words.extend(["--qemu-arg=-D", &log, "--qemu-arg=-dfilter", &filter]);
    words.extend(trip.program().split(' '));
    let tool = std::env::current_exe();
    let tool =
        tool.map_err(|error| Error::File("cannot find the host tool's executable".to_owned(), error))?;
    let output = Command::new(&tool).args(&words).output();
    let output = output.map_err(|error| Error::file("start", &tool, error))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let measured = trip.measured(&stdout).filter(|_| output.status.success());
    let measured = measured.ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or_default();
        Error::Host(format!("`xtask run {}` has failed: {last}", trip.program()))
    })?;
    let text = std::fs::read_to_string(&file).map_err(|error| Error::file("read", &file, error))?;
    Ok((text, measured))
}

impl Path {
    /// Formats the table for the terminal.
    #[must_use]
    pub fn table(&self, fold: bool) -> String {
        rows::table(&self.rows, fold)
    }

    /// Formats the table for the documentation.
    #[must_use]
    pub fn markdown(&self) -> String {
        rows::markdown(&self.rows)
    }
}

fn markers(trip: Trip) -> [String; 2] {
    [format!("<!-- bench --where {} -->\n", trip.name()), format!("<!-- end of {} -->\n", trip.name())]
}

/// Returns the part of the page between the markers of a round trip, with the text before and after it.
fn parts(page: &str, trip: Trip) -> Option<[&str; 3]> {
    let [start, end] = markers(trip);
    let (before, rest) = page.split_once(&start)?;
    let (inside, after) = rest.split_once(&end)?;
    Some([before, inside, after])
}

/// Compares the documentation with a path, or updates it.
///
/// # Errors
/// If they differ, or the page cannot be read or written.
pub fn check_page(trip: Trip, path: &Path, update: bool) -> Result<(), Error> {
    let file = tree::root().join(PAGE);
    let page = std::fs::read_to_string(&file).map_err(|error| Error::file("read", &file, error))?;
    let fresh = path.markdown();
    let changed = compare(&page, trip, &fresh)?;
    match changed {
        None => Ok(()),
        Some(page) if update => {
            output::write(&file, page).map_err(|error| Error::file("write", &file, error))
        }
        Some(_) => Err(Error::Host(format!(
            "{PAGE} differs from what QEMU has executed; update it with `RINGSIDE_WRITE_DOCS=1 cargo xtask bench --where \
             {}`. It should contain:\n{fresh}",
            trip.name()
        ))),
    }
}

/// Returns the page with the fresh table, if it differs from the table on the page.
fn compare(page: &str, trip: Trip, fresh: &str) -> Result<Option<String>, Error> {
    let missing = || Error::Host(format!("{PAGE} has no markers for the path {}", trip.name()));
    let [before, inside, after] = parts(page, trip).ok_or_else(missing)?;
    let [start, end] = markers(trip);
    let fresh = format!("\n{fresh}\n");
    Ok((inside != fresh).then(|| format!("{before}{start}{fresh}{end}{after}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_instructions_are_found() {
        let stdout = "[cpu0] roundtrip: 100 calls, 39.00 TSC ticks each, loop included\n\
                      [cpu0] roundtrip: 100 calls, 36.00 TSC ticks each, loop subtracted\n\
                      [cpu0] roundtrip: 5 timer ticks, at least 60 TSC ticks each, 60.00 on average, loop subtracted\n";
        assert_eq!(Trip::Null.measured(stdout).as_deref(), Some("36.00"));
        assert_eq!(Trip::Tick.measured(stdout).as_deref(), Some("60"));
        assert_eq!(Trip::Tick.measured(""), None);
    }

    #[test]
    fn page_is_compared_and_updated_between_its_markers() {
        let page = "a\n<!-- bench --where null -->\nold\n<!-- end of null -->\nb\n";
        let changed = compare(page, Trip::Null, "new\n").expect("there are markers").expect("it must differ");
        assert_eq!(changed, "a\n<!-- bench --where null -->\n\nnew\n\n<!-- end of null -->\nb\n");
        assert_eq!(compare(&changed, Trip::Null, "new\n").expect("there are markers"), None);
        assert!(compare(page, Trip::Tick, "new\n").is_err());
    }

    /// `check::executed-path` compares the whole page, but needs QEMU. This test notices a change of the assembly or of
    /// its comments.
    #[test]
    fn page_quotes_the_source() {
        let page = std::fs::read_to_string(tree::root().join(PAGE)).expect("cannot read the page");
        let mut quoted = 0;
        for trip in Trip::ALL {
            let [_, inside, _] = parts(&page, trip).expect("the page must have the markers");
            for row in inside.lines().filter(|line| line.starts_with("| ")).skip(1) {
                let cells = row.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")).unwrap_or_default();
                let cells: Vec<_> = cells.split(" | ").map(|cell| cell.trim_matches('`')).collect();
                let [_, _, function, code, purpose] = cells[..] else { panic!("five cells expected: {row}") };
                let lines = crate::source::of_function(function).expect("cannot read the source");
                let Some(lines) = lines else { continue };
                quoted += 1;
                let is_quoted = |line: &crate::source::Line| {
                    code.starts_with(&line.text)
                        && (purpose.trim_matches('`') == line.comment.trim_matches('`'))
                };
                assert!(lines.iter().any(is_quoted), "update {PAGE}: {row}");
            }
        }
        assert!(quoted > 10, "{quoted}");
    }
}
