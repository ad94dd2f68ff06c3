//! The table as `docs/mutants.md` has it.

use super::mutant::{Mutant, Proof};
use super::table::MUTANTS;

/// All rows, between two lines that mark them.
pub fn table() -> String {
    let rows: String = MUTANTS.iter().map(row).collect();
    format!("| guard | mutant | the test that dies | why it dies |\n|-|-|-|-|\n{rows}")
}

fn row(mutant: &Mutant) -> String {
    let (test, why) = match &mutant.proof {
        Proof::NotShown(because) => ("none".to_owned(), format!("not shown here: {because}")),
        Proof::Case(_, reasons) => (format!("`{}`", mutant.proof.test()), said(reasons)),
        Proof::Host(package, test, reason) => (format!("`{test}` (`{package}`)"), said(&[reason])),
        Proof::Loom(test, reason) => (format!("`{test}`"), said(&[reason])),
        Proof::Compiler(reason) => ("it does not compile".to_owned(), said(&[reason])),
    };
    format!("| {} | `{}` | {test} | {why} |\n", mutant.guard, mutant.name)
}

fn said(reasons: &[&str]) -> String {
    reasons.iter().map(|reason| format!("\"{reason}\"")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cases;
    use machine::tree::root;

    fn read(path: &str) -> String {
        std::fs::read_to_string(root().join(path)).expect("it can be read")
    }

    /// The kernel's features, each with the comment above it.
    fn features() -> Vec<(String, String)> {
        let manifest = read("kernel/Cargo.toml");
        let lines: Vec<_> = manifest.lines().collect();
        let pairs = lines.windows(2).filter_map(|pair| {
            let name = pair[1].strip_prefix("mutant-")?.split(' ').next()?;
            Some((name.to_owned(), pair[0].to_owned()))
        });
        pairs.collect()
    }

    #[test]
    fn the_kernels_features_and_the_table_are_the_same() {
        let rows: Vec<_> = MUTANTS.iter().map(|mutant| mutant.name.to_owned()).collect();
        let features: Vec<_> = features().into_iter().map(|(name, _)| name).collect();
        assert_eq!(rows, features);
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "one name twice");
    }

    #[test]
    fn every_feature_has_a_comment() {
        for (name, comment) in features() {
            assert!(comment.starts_with("# ") && comment.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn every_case_exists() {
        let cases = cases::all();
        for mutant in MUTANTS {
            if let Proof::Case(name, _) = mutant.proof {
                assert!(cases.iter().any(|case| case.name == name), "{name}");
            }
        }
    }

    #[test]
    fn the_page_has_the_table() {
        let page = read("docs/mutants.md");
        assert!(
            page.contains(&table()),
            "docs/mutants.md is out of date: put in what `cargo xtask mutants --markdown` prints"
        );
    }
}
