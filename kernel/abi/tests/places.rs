//! Checks places that must agree with the tables of system calls and event kinds but are not generated from them: the
//! documentation, the wrappers of the calls, and the code that records the events. Each failure names the place.
//!
//! `RINGSIDE_WRITE_DOCS=1 cargo test -p kernel_abi --all-features` updates the tables in the documentation.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use kernel_abi::syscall::{Call, FREE, TABLE_LEN};
use kernel_abi::trace::{GROUPS, Kind};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the table of `docs/syscall-abi.md`.
fn calls() -> String {
    let mut text = String::from("| number | name | arguments | result |\n|-|-|-|-|\n");
    for call in Call::ALL {
        let arguments = match call.arguments() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        // Writing to a `String` cannot fail, here and below.
        let _ = writeln!(text, "| {} | `{}` | {arguments} | {} |", call.number(), call.name(), call.result());
    }
    let free = match (FREE.end - FREE.start, FREE.end.saturating_sub(1)) {
        (0, _) => String::new(),
        (1, last) => format!("| {last} | free | | `-ENOSYS` |\n"),
        (_, last) => format!("| {} to {last} | free | | `-ENOSYS` |\n", FREE.start),
    };
    text + &free + &format!("| {TABLE_LEN} and above | | | `-ENOSYS` |\n")
}

/// Returns the table of `docs/tracing.md`.
fn kinds() -> String {
    let mut text = String::from("| kind | name | word in `trace=` | a | b |\n|-|-|-|-|-|\n");
    for kind in Kind::ALL {
        let group =
            kind.group().map_or("any; stream mode only".to_owned(), |group| format!("`{}`", group.word()));
        let _ = write!(text, "| {} | `{}` | {group} |", kind as u16, kind.name());
        for field in kind.fields() {
            let _ = match field {
                Some(field) => write!(text, " {} |", field.meaning),
                None => write!(text, " |"),
            };
        }
        text.push('\n');
    }
    text
}

/// Compares a page's table with the expected table, or updates the page.
fn compare(path: &str, table: &str) {
    let page = read(path);
    let header = table.lines().next().expect("there must be a header");
    let begin = page.find(header).unwrap_or_else(|| panic!("{path} has no table with the header {header}"));
    let rows = page[begin..].split_inclusive('\n').take_while(|line| line.starts_with('|'));
    let end = begin + rows.map(str::len).sum::<usize>();
    if &page[begin..end] == table {
        return;
    }
    let hint = "RINGSIDE_WRITE_DOCS=1 cargo test -p kernel_abi --all-features";
    assert!(
        std::env::var_os("RINGSIDE_WRITE_DOCS").is_some(),
        "the table in {path} differs from that of kernel_abi, which follows ({hint} updates it):\n{table}"
    );
    fs::write(root().join(path), [&page[..begin], table, &page[end..]].concat())
        .expect("cannot write the file");
}

#[test]
fn documented_calls_match_the_table() {
    compare("docs/syscall-abi.md", &calls());
}

#[test]
fn documented_kinds_match_the_table() {
    compare("docs/tracing.md", &kinds());
}

/// The documentation of the kernel option `trace` must list all words.
#[test]
fn documented_words_of_trace_are_the_groups() {
    const PATH: &str = "docs/running.md";
    let page = read(PATH);
    let row = page.lines().find(|line| line.starts_with("| `trace` |"));
    let row = row.unwrap_or_else(|| panic!("{PATH} has no row for the kernel option `trace`"));
    let words = GROUPS.map(|(word, _)| format!("`{word}`")).join(", ");
    assert!(row.contains(&words), "{PATH}: the row of `trace` must list the words {words}: {row}");
}

#[test]
fn every_call_has_a_wrapper() {
    let wrappers = read("user/src/sys.rs");
    // The constant must be the first argument of a call; its import does not count.
    for call in Call::ALL {
        let uses = [format!("call({}, ", call.name()), format!("syscall({}, ", call.name())];
        assert!(
            uses.iter().any(|text| wrappers.contains(text)),
            "user/src/sys.rs has no wrapper for {}",
            call.name()
        );
    }
}

/// Collects the Rust files below a folder, except tests.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .expect("cannot read the folder")
        .map(|entry| entry.expect("cannot read the folder").path())
    {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() {
            sources(&entry, files);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            files.push(entry);
        }
    }
}

#[test]
fn every_kind_is_recorded_somewhere_in_the_kernel() {
    let mut files = Vec::new();
    sources(&root().join("kernel/src"), &mut files);
    assert!(!files.is_empty(), "no sources were found in kernel/src");
    let text: String =
        files.iter().map(|path| fs::read_to_string(path).expect("there must be a source")).collect();
    for kind in Kind::ALL {
        // The kind must be the first argument of a call that records it; other uses do not count.
        assert!(
            text.contains(&format!("(Kind::{kind:?}, ")),
            "nothing in kernel/src records Kind::{kind:?}; record it with cpu.trace(Kind::{kind:?}, a, b)"
        );
    }
}
