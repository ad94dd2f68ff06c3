//! The exact figures that the suite compares with the kernel's: `docs/bench-baseline.json`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use machine::error::Error;
use machine::tree::root;
use serde::Deserialize;

use super::figure::{Report, Section, number};

/// The number of instructions by which a figure may be worse than its entry.
const TOLERANCE: f64 = 2.0;

/// The entry of the floor, of which the page shows multiples.
const FLOOR: &str = "floor: shortest";

/// An entry.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Entry {
    /// The number of instructions.
    pub instructions: f64,
    /// The reason for the latest change.
    pub reason: String,
}

/// The entries, by section and figure.
pub type Baseline = BTreeMap<String, Entry>;

/// Returns the path of the file.
#[must_use]
pub fn path() -> PathBuf {
    root().join("docs/bench-baseline.json")
}

/// Reads the file.
///
/// # Errors
/// If it cannot be read or is not valid.
pub fn read() -> Result<Baseline, Error> {
    let text = std::fs::read(path()).map_err(|error| Error::file("read", &path(), error))?;
    serde_json::from_slice(&text).map_err(|error| Error::Host(format!("{}: {error}", path().display())))
}

/// Returns the name of a figure in the file.
fn key(section: &str, figure: &str) -> String {
    format!("{section}: {figure}")
}

/// Compares the exact figures of a report with the entries. Returns a line for each figure that is more than two
/// instructions worse, that is better, or that has no entry, and for each entry without a figure.
#[must_use]
pub fn differences(report: &Report, baseline: &Baseline) -> Vec<String> {
    let mut found = Vec::new();
    let mut unused = baseline.clone();
    for (section, figure) in report.exact() {
        let name = key(section, &figure.name);
        unused.remove(&name);
        let now = number(figure.value);
        match baseline.get(&name).map(|entry| entry.instructions) {
            None => found.push(format!("{name}: {now} instructions have no entry")),
            Some(then) if figure.value > then + TOLERANCE => {
                found.push(format!("{name}: {now} instructions, the entry is {}", number(then)));
            }
            Some(then) if figure.value.round() < then => {
                found.push(format!("{name}: {now} instructions are fewer than the entry, {}", number(then)));
            }
            Some(_) => {}
        }
    }
    found.extend(unused.keys().map(|name| format!("{name}: there is an entry, but no such figure")));
    found
}

/// Returns the path of the page that documents the figures.
fn page_path() -> PathBuf {
    root().join("docs/performance.md")
}

/// Returns the page with the figures of the baseline in the rows of its table.
fn with_figures(page: &str, baseline: &Baseline) -> String {
    let floor = baseline.get(FLOOR).map_or(f64::NAN, |entry| entry.instructions);
    let row = |line: &str| {
        let name = line.strip_prefix("| `")?.split_once("` |")?.0;
        let now = baseline.get(name)?.instructions;
        Some(format!("| `{name}` | {} | {} |", number(now), number(now / floor)))
    };
    page.lines().map(|line| row(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// Enters the exact figures of a report that differ from the file's, with this reason, and removes the entries of its
/// sections that have no figure any more. Entries of other sections stay. Also updates the table of
/// `docs/performance.md`. Returns the number of changed entries.
///
/// # Errors
/// If the file is not valid or cannot be written.
pub fn write(report: &Report, reason: &str) -> Result<usize, Error> {
    let mut baseline = if path().exists() { read()? } else { Baseline::new() };
    let changed = enter(&mut baseline, report, reason);
    output::write(path(), text(&baseline)).map_err(|error| Error::file("write", &path(), error))?;
    let failed = |error| Error::file("update", &page_path(), error);
    let page = std::fs::read_to_string(page_path()).map_err(failed)?;
    output::write(page_path(), with_figures(&page, &baseline)).map_err(failed)?;
    Ok(changed)
}

fn enter(baseline: &mut Baseline, report: &Report, reason: &str) -> usize {
    let measured: Vec<_> = report.exact().map(|(section, figure)| key(section, &figure.name)).collect();
    let is_of = |name: &str, section: &Section| name.starts_with(&key(&section.name, ""));
    let before = baseline.len();
    baseline.retain(|name, _| {
        measured.contains(name) || !report.sections.iter().any(|section| is_of(name, section))
    });
    let mut changed = before - baseline.len();
    for (section, figure) in report.exact() {
        let name = key(section, &figure.name);
        // A timer interrupt during the loop adds a fraction of an instruction to each call.
        let instructions = figure.value.round();
        if baseline.get(&name).is_none_or(|entry| entry.instructions != instructions) {
            baseline.insert(name, Entry { instructions, reason: reason.to_owned() });
            changed += 1;
        }
    }
    changed
}

/// Formats the file: one entry a line, so that a change of one figure changes one line.
fn text(baseline: &Baseline) -> String {
    let mut text = "{".to_owned();
    for (index, (name, entry)) in baseline.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            "{comma}\n  {}: {{\"instructions\": {}, \"reason\": {}}}",
            quoted(name),
            number(entry.instructions),
            quoted(&entry.reason)
        );
    }
    text + "\n}\n"
}

#[cfg(test)]
mod tests {
    use super::super::figure::Figure;
    use super::*;

    fn report(null: f64) -> Report {
        let figures = vec![Figure::exact("null", null), Figure::median("other", &[1.0], "ms")];
        let mut report = Report::new();
        report.sections.push(Section { name: "calls".to_owned(), how: String::new(), figures });
        report
    }

    #[test]
    fn worse_better_and_missing_figures_are_reported() {
        let mut baseline = Baseline::new();
        assert_eq!(differences(&report(36.0), &baseline), ["calls: null: 36 instructions have no entry"]);
        assert_eq!(enter(&mut baseline, &report(36.0), "first"), 1);
        for same in [36.0, 37.0, 38.0] {
            assert!(differences(&report(same), &baseline).is_empty(), "{same}");
        }
        assert_eq!(differences(&report(39.0), &baseline), ["calls: null: 39 instructions, the entry is 36"]);
        assert_eq!(
            differences(&report(35.4), &baseline),
            ["calls: null: 35.4 instructions are fewer than the entry, 36"]
        );
    }

    #[test]
    fn entry_without_a_figure_is_reported_and_removed() {
        let mut baseline = Baseline::new();
        enter(&mut baseline, &report(36.0), "first");
        let entry = Entry { instructions: 1.0, reason: String::new() };
        baseline.insert("calls: gone".to_owned(), entry.clone());
        baseline.insert("elsewhere: null".to_owned(), entry);
        let found = differences(&report(36.0), &baseline);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "calls: gone: there is an entry, but no such figure");
        assert_eq!(enter(&mut baseline, &report(36.0), "second"), 1);
        assert_eq!(baseline.into_keys().collect::<Vec<_>>(), ["calls: null", "elsewhere: null"]);
    }

    #[test]
    fn figure_outside_the_baseline_is_not_compared() {
        let mut report = report(36.0);
        let mean = Figure::exact("mean", 1.0).outside_baseline();
        report.sections[0].figures.push(mean);
        let mut baseline = Baseline::new();
        enter(&mut baseline, &report, "first");
        assert_eq!(baseline.into_keys().collect::<Vec<_>>(), ["calls: null"]);
    }

    #[test]
    fn only_changed_figures_get_the_reason() {
        let mut baseline = Baseline::new();
        enter(&mut baseline, &report(36.0), "first");
        assert_eq!(enter(&mut baseline, &report(36.0), "second"), 0);
        assert_eq!(baseline["calls: null"].reason, "first");
        assert_eq!(enter(&mut baseline, &report(35.0), "a \"quoted\" reason"), 1);
        let again: Baseline = serde_json::from_str(&text(&baseline)).expect("it must be JSON");
        assert_eq!(again, baseline);
    }

    #[test]
    fn documented_figures_are_those_of_the_baseline() {
        let baseline = read().expect("the baseline must be valid");
        let page = std::fs::read_to_string(page_path()).expect("there must be a page");
        assert_eq!(
            page,
            with_figures(&page, &baseline),
            "cargo xtask bench --write-baseline updates the page"
        );
        let named = |line: &&str| baseline.keys().any(|key| line.starts_with(&format!("| `{key}` |")));
        assert!(page.lines().filter(named).count() >= 20);
    }

    #[test]
    fn rows_of_the_page_get_the_figures_of_the_baseline() {
        let entry = |instructions| Entry { instructions, reason: String::new() };
        let baseline =
            Baseline::from([(FLOOR.to_owned(), entry(4.0)), ("calls: null".to_owned(), entry(37.0))]);
        let page = "a\n| `calls: null` | 36 | 9 |\n| `calls: other` | 1 | 2 |\n";
        let expected = "a\n| `calls: null` | 37 | 9.25 |\n| `calls: other` | 1 | 2 |\n";
        assert_eq!(with_figures(page, &baseline), expected);
    }
}
