//! Checks that files, programs and functions named in the documents exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// File extensions. A text in backticks that ends with one of these must be a file of this tree.
const ENDINGS: [&str; 8] = [".rs", ".S", ".ld", ".md", ".sh", ".toml", ".svg", ".py"];
/// Keywords that precede the name of a definition.
const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "static", "type", "macro_rules!"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("cannot find the checkout")
}

/// Returns README.md, CONTRIBUTING.md and docs/*.md, each with its path relative to the top and its text without code
/// blocks.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(root().join("docs")).expect("cannot list docs/");
    let docs =
        docs.map(|entry| Path::new("docs").join(entry.expect("cannot read the directory").file_name()));
    let mut paths: Vec<_> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    paths.extend(["README.md", "CONTRIBUTING.md"].map(PathBuf::from));
    paths.into_iter().map(|path| (path.clone(), without_code_blocks(&read(&path)))).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn without_code_blocks(text: &str) -> String {
    let outside = text.split("```").step_by(2);
    outside.collect()
}

/// Returns all files and directories of the tree, except build output. Directories end with a slash.
fn tree() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("cannot read the directory") {
            let path = entry.expect("cannot read the directory").path();
            let name = path
                .strip_prefix(root())
                .expect("the path must be in the checkout")
                .to_str()
                .expect("invalid UTF-8")
                .to_owned();
            if !path.is_dir() {
                found.insert(name);
            } else if name != "target" && name != ".git" {
                found.insert(name + "/");
                folders.push(path);
            }
        }
    }
    found
}

/// Returns the texts in backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns whether the text names a file or directory of the tree, as opposed to a pattern or a command.
fn is_path(span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let folder = span.ends_with('/') && !span.starts_with('/');
    plain && !span.starts_with("target/") && (folder || ENDINGS.iter().any(|end| span.ends_with(end)))
}

/// Returns the anchor that GitHub generates for a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Returns whether the text is the name of a function. Names with two or more underscores are functions, mostly tests.
fn is_function(span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    plain && span.matches('_').count() >= 2 && span.starts_with(|c: char| c.is_ascii_lowercase())
}

#[test]
fn functions_in_backticks_are_defined() {
    let sources: Vec<_> =
        tree().into_iter().filter(|path| path.ends_with(".rs")).map(|path| read(Path::new(&path))).collect();
    let mut missing = Vec::new();
    for (page, text) in pages() {
        for span in spans(&text).filter(|span| is_function(span)) {
            if !sources.iter().any(|source| source.contains(span)) {
                missing.push(format!("{}: `{span}`", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "these functions do not exist:\n{}", missing.join("\n"));
}

#[test]
fn files_in_backticks_exist() {
    let tree = tree();
    let exists = |span: &str| {
        let name = span.trim_start_matches("./");
        let end = format!("/{name}");
        tree.iter().any(|path| path == name || path.ends_with(&end))
    };
    let mut missing = Vec::new();
    for (page, text) in pages() {
        let spans = spans(&text).filter(|span| is_path(span) && !exists(span));
        missing.extend(spans.map(|span| format!("{} names `{span}`", page.display())));
    }
    assert!(missing.is_empty(), "there is no such file: {missing:#?}");
}

#[test]
fn links_lead_to_files_and_headings() {
    for (page, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let here = root().join(&page);
            let target = if file.is_empty() { here } else { here.with_file_name("").join(file) };
            assert!(target.exists(), "{} links to {link}, which does not exist", page.display());
            if !heading.is_empty() {
                let text = without_code_blocks(&fs::read_to_string(&target).expect("there must be a page"));
                let mut headings = text.lines().filter_map(|line| line.strip_prefix('#'));
                let found = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(found, "{} links to {link}: no such heading", page.display());
            }
        }
    }
}

/// Each stop of the tour begins with `Read` and names a file and some of its definitions, all in backticks.
#[test]
fn tour_names_definitions_of_its_files() {
    let tour = read(Path::new("docs/tour.md"));
    let stops: Vec<_> = tour.lines().filter(|line| line.starts_with("Read `")).collect();
    assert!(stops.len() >= 12, "{} stops", stops.len());
    let mut missing = Vec::new();
    for stop in stops {
        let mut names = spans(stop);
        let file = names.next().expect("no file");
        let code = fs::read_to_string(root().join(file)).unwrap_or_default();
        missing.extend(names.filter(|name| !defines(&code, name)).map(|name| format!("{file}: {name}")));
    }
    assert!(missing.is_empty(), "docs/tour.md names definitions that its files do not have: {missing:#?}");
}

/// Returns whether the code defines this name, by a keyword or as an assembly label.
fn defines(code: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let by_keyword = KEYWORDS.iter().any(|keyword| {
        let definition = format!("{keyword} {name}");
        code.match_indices(&definition).any(|(at, _)| ends(&code[at + definition.len()..]))
    });
    by_keyword || code.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

#[test]
fn every_program_is_in_the_table() {
    let page = read(Path::new("docs/running.md"));
    for entry in fs::read_dir(root().join("user/src/bin")).expect("cannot list the programs") {
        let path = entry.expect("cannot read the directory").path();
        let name = path.file_stem().expect("there must be a name").to_str().expect("invalid UTF-8");
        let rows = [format!("| `{name}` |"), format!("| `{name} ")];
        assert!(rows.iter().any(|row| page.contains(row)), "docs/running.md, \"Programs\", lacks {name}");
    }
}

#[test]
fn every_class_of_probes_is_in_the_table() {
    let page = read(Path::new("docs/hostile.md"));
    let classes = read(Path::new("user/src/bin/hostile/class.rs"));
    let names: Vec<_> =
        classes.lines().filter_map(|line| line.trim().strip_prefix("(Class::")?.split('"').nth(1)).collect();
    assert!(names.len() >= 16, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "docs/hostile.md, \"The classes\", lacks {name}");
    }
}

#[test]
fn every_case_is_in_the_table() {
    let page = without_code_blocks(&read(Path::new("docs/testing.md")));
    let rows: Vec<_> = spans(&page).collect();
    let list = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["test", "--list"])
        .output()
        .expect("cannot start the tool");
    let list = String::from_utf8(list.stdout).expect("invalid UTF-8");
    let cases: Vec<_> = list.lines().filter_map(|line| line.split(": ").next()?.split_once("::")).collect();
    assert!(cases.len() > 100, "{list}");
    let mut missing = Vec::new();
    for (group, name) in cases {
        let full = format!("{group}::{name}");
        // In `machine::smp-1`, `-2`, the second is short for `machine::smp-2`. `*` matches any ending.
        let names = |row: &str| match row.strip_suffix('*') {
            Some(beginning) => full.starts_with(beginning) || name.starts_with(beginning),
            None => row == full || row == name || (row.starts_with('-') && name.ends_with(row)),
        };
        if !rows.iter().any(|row| !row.is_empty() && names(row)) {
            missing.push(full);
        }
    }
    assert!(missing.is_empty(), "docs/testing.md has no row for {missing:#?}");
}
