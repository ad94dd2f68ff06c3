use std::collections::BTreeMap;

use super::source::read as source;
use super::*;

/// Returns the graph of a crate with these files, each given by path and text. The first is the root.
fn graph(files: &[(&str, &str)]) -> Graph {
    let texts: BTreeMap<_, _> = files.iter().map(|(path, text)| (PathBuf::from(path), *text)).collect();
    let read = |path: &Path| texts.get(path).map(|&text| text.to_owned());
    Graph::read(Path::new(files[0].0), &read).expect("every module must have a file")
}

fn edges(graph: &Graph) -> Vec<(String, String)> {
    let name = |file: usize| graph.files[file].module.join("::");
    graph.imports.iter().map(|import| (name(import.from), name(import.to))).collect()
}

fn paths(text: &str) -> Vec<String> {
    source(text).paths.iter().map(|path| path.segments.join("::")).collect()
}

#[test]
fn use_groups_globs_and_renames_are_read() {
    let table: &[(&str, &[&str])] = &[
        ("use crate::a;", &["crate::a"]),
        ("pub use crate::a::B;", &["crate::a::B"]),
        (
            "pub(crate) use super::{self, a, b::{C, d::*}};",
            &["super", "super::a", "super::b::C", "super::b::d"],
        ),
        ("use crate::{a, b::c};", &["crate::a", "crate::b::c"]),
        (
            "use crate::a::{\n    B as _,\n    C as D,\n};\nuse self::e;",
            &["crate::a::B", "crate::a::C", "self::e"],
        ),
        (
            "fn f() -> crate::a::B { super::super::g::<crate::h::I>() }",
            &["crate::a::B", "super::super::g", "crate::h::I"],
        ),
        ("#[arg(value_parser = crate::a::parse)] x: u8,", &["crate::a::parse"]),
        ("pub(in crate::a) struct B; fn f() -> impl Sized + use<'_> { c.d::<E>() }", &[]),
    ];
    for (text, expected) in table {
        assert_eq!(paths(text), *expected, "{text}");
    }
}

#[test]
fn comments_strings_and_tests_are_not_imports() {
    let table = [
        "// use crate::a;",
        "/// [`crate::a`]\n//! crate::a",
        "/* use crate::a; /* nested */ use crate::a; */",
        r#"const A: &str = "use crate::a; \" crate::a";"#,
        "const A: &str = r#\"\" use crate::a;\"#; const B: &[u8] = b\"crate::a\";",
        "#[cfg(test)]\nmod tests { use crate::a; fn f() { crate::a::g() } }",
        "#[cfg(test)]\nuse crate::a;",
        "#[cfg(all(test, unix))]\nfn f(a: [u8; 2]) { crate::a::g() }",
    ];
    for text in table {
        assert_eq!(paths(text), [""; 0], "{text}");
        // Code after a skipped item is read.
        assert_eq!(paths(&format!("{text}\nuse crate::b;")), ["crate::b"], "{text}");
    }
    assert_eq!(paths("fn f<'a>(c: &'a str) { ['\"', '\\'', 'c']; crate::a::B }"), ["crate::a::B"]);
}

#[test]
fn paths_resolve_to_the_deepest_file() {
    let graph = graph(&[
        ("src/lib.rs", "mod a; mod b; #[macro_use] mod c; pub struct Root;"),
        ("src/a.rs", "mod deep; use crate::b::inner::Item; fn f() { deep::g(); c!(); std::b::x(); }"),
        (
            "src/a/deep.rs",
            "use super::Item; mod inline { use super::super::super::b; } fn f() { crate::Root }",
        ),
        ("src/b/mod.rs", "#[path = \"other.rs\"]\nmod inner;"),
        ("src/b/other.rs", "use crate::c;"),
        ("src/c.rs", "macro_rules! c { () => { $crate::b::f() } }"),
    ]);
    let expected = [
        ("a", "a::deep"),
        ("a", "b::inner"),
        ("a", "c"),
        ("a::deep", ""),
        ("a::deep", "a"),
        ("a::deep", "b"),
        ("b::inner", "c"),
        ("c", "b"),
    ];
    let mut found = edges(&graph);
    found.sort();
    assert_eq!(found, expected.map(|(from, to)| (from.to_owned(), to.to_owned())));
}

#[test]
fn cycle_of_three_files_is_found_and_one_of_two_is_allowed() {
    let root = ("lib.rs", "mod a;\nmod b;\nmod c;");
    let two =
        graph(&[root, ("a.rs", "use crate::b;"), ("b.rs", "use crate::{a, c};"), ("c.rs", "use crate::b;")]);
    assert!(two.cycles().is_empty());
    let three = graph(&[
        root,
        ("a.rs", "use crate::b;"),
        ("b.rs", "\nuse crate::{a, c};"),
        ("c.rs", "fn f() { crate::a::g() }"),
    ]);
    let cycles = three.cycles();
    assert_eq!(cycles.len(), 1);
    let described = describe_cycle(&three, &cycles[0]);
    assert!(described.starts_with("an import cycle of 3 files"), "{described}");
    for line in [
        "a.rs:1 imports `crate::b` (b.rs)",
        "b.rs:2 imports `crate::c` (c.rs)",
        "c.rs:1 imports `crate::a::g` (a.rs)",
    ] {
        assert!(described.contains(line), "{described}");
    }
}

/// Returns the messages about upward imports in a synthetic kernel with one import in one file.
fn kernel(file: &str, import: &str) -> Vec<String> {
    let mut files = vec![
        ("lib.rs", "mod pure; mod other;\npub mod arch;\nmod run;".to_owned()),
        ("pure.rs", String::new()),
        ("other.rs", String::new()),
        ("arch/mod.rs", "mod low;\n\nmod high;".to_owned()),
        ("arch/low/mod.rs", "mod a; mod b;".to_owned()),
        ("arch/low/a.rs", String::new()),
        ("arch/low/b.rs", String::new()),
        ("arch/high.rs", "mod c;".to_owned()),
        ("arch/high/c.rs", String::new()),
        ("run.rs", String::new()),
    ];
    let changed = files.iter_mut().find(|(path, _)| *path == file).expect("the file must be known");
    changed.1.push_str(&format!("\n{import}"));
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    upward(&graph(&files)).expect("there must be layers")
}

#[test]
fn upward_import_is_found_and_downward_import_is_allowed() {
    let upward: &[(&str, &str, &str)] = &[
        ("arch/low/a.rs", "use crate::arch::high;", "from layer `low` to layer `high`"),
        ("arch/low/a.rs", "use crate::run;", "from layer `low` to the modules above"),
        ("arch/high.rs", "fn f() { crate::run::g() }", "from layer `high` to the modules above"),
        ("arch/low/mod.rs", "use super::Item;", "from layer `low` to the modules above"),
        (
            "pure.rs",
            "use crate::arch::low;",
            "from the pure modules (declared before `arch` in lib.rs) to layer `low`",
        ),
        (
            "other.rs",
            "pub use crate::run::Run;",
            "from the pure modules (declared before `arch` in lib.rs) to the modules above",
        ),
    ];
    for (file, import, expected) in upward {
        let found = kernel(file, import);
        assert_eq!(found.len(), 1, "{file}: {import}");
        assert!(found[0].contains(expected), "{}", found[0]);
        assert!(found[0].starts_with(file), "{}", found[0]);
    }
    let downward = [
        ("arch/low/a.rs", "use super::b; use crate::pure;"),
        ("arch/high.rs", "use super::low; use crate::arch::low::a::B;"),
        ("run.rs", "use crate::arch::high; use crate::pure;"),
        ("pure.rs", "use crate::other;"),
        ("arch/mod.rs", "pub use self::low::Item;"),
    ];
    for (file, import) in downward {
        assert_eq!(kernel(file, import), [""; 0], "{file}: {import}");
    }
}

#[test]
fn source_tree_has_crate_roots() {
    let roots = crate_roots(machine::tree::root()).expect("cannot read the directories");
    for file in ["kernel/src/lib.rs", "kernel/src/main.rs", "scripts/xtask/src/main.rs"] {
        assert!(roots.contains(&PathBuf::from(file)), "{file}");
    }
}

#[test]
fn module_without_a_file_is_an_error() {
    let read = |path: &Path| (path == Path::new("lib.rs")).then(|| "mod lost;".to_owned());
    let error = Graph::read(Path::new("lib.rs"), &read).err();
    assert_eq!(error.as_deref(), Some("lib.rs: no file for `mod lost;`"));
}
