//! Checks that the table is complete: everything that it names exists, and it names every mutant.

use std::collections::BTreeSet;
use std::path::Path;

use machine::tree::root;

use super::*;
use crate::mutants::table::MUTANTS;
use crate::{cases, checks};

fn rows() -> impl Iterator<Item = &'static Hazard> {
    HAZARDS.iter().flat_map(|(_, rows)| rows.iter())
}

/// Returns whether a test function of this name exists in the module of this path; `*` matches any test.
fn is_host_test(package: &str, path: &str) -> bool {
    let folder = if package == "kernel" { "kernel/src" } else { "ap_trampoline/src" };
    let (module, name) = path.rsplit_once("::").expect("there must be a path");
    // A module's tests are in its own file or in a file named after it.
    let module =
        module.trim_start_matches("tests::").trim_end_matches("::tests").trim_end_matches("::loom_tests");
    let module = module.replace("::", "/");
    let files =
        ["{}.rs", "{}/tests.rs", "{}/loom_tests.rs", "tests/{}.rs"].map(|file| file.replace("{}", &module));
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(root().join(folder).join(file)).ok());
    let function = if name == "*" { "#[test]".to_owned() } else { format!("fn {name}(") };
    texts.into_iter().any(|text| text.contains(&function))
}

#[test]
fn every_test_exists() {
    let names: Vec<_> = cases::all()
        .into_iter()
        .map(|case| case.name)
        .chain(checks::CHECKS.iter().map(|check| check.name.to_owned()))
        .collect();
    for row in rows() {
        for shown in row.shown {
            let found = match (shown.split_once(": "), shown.strip_suffix('*')) {
                (Some((package, path)), _) => is_host_test(package, path),
                (None, Some(start)) => names.iter().any(|name| name.starts_with(start)),
                (None, None) => names.iter().any(|name| name == shown),
            };
            assert!(found, "{}: there is no test {shown}", row.hazard);
        }
    }
}

#[test]
fn every_mutant_belongs_to_a_hazard_and_every_name_exists() {
    let existing: BTreeSet<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
    let named: BTreeSet<_> = rows().flat_map(|row| row.mutants.iter().copied()).collect();
    let missing: Vec<_> = existing.difference(&named).collect();
    assert!(missing.is_empty(), "mutants that belong to no hazard: {missing:?}");
    let unknown: Vec<_> = named.difference(&existing).collect();
    assert!(unknown.is_empty(), "rows name mutants that do not exist: {unknown:?}");
}

#[test]
fn row_without_a_test_or_a_mutant_has_a_reason() {
    for row in rows() {
        let complete = !row.shown.is_empty() && !row.mutants.is_empty();
        assert!(complete || !row.note.is_empty(), "this row needs a note: {}", row.hazard);
    }
}

#[test]
fn the_page_has_the_table() {
    let page =
        std::fs::read_to_string(root().join(Path::new("docs/security.md"))).expect("cannot read the file");
    assert!(
        page.contains(&markdown()),
        "docs/security.md is out of date: replace its tables with the output of `cargo xtask mutants --hazards`"
    );
}
