//! Formats the table of `docs/mutants.md`.

use super::mutant::{Mutant, Proof};
use super::table::MUTANTS;

/// Formats the header and all rows.
pub fn table() -> String {
    let rows: String = MUTANTS.iter().map(row).collect();
    format!("| guard | mutant | failing test | expected text in its output |\n|-|-|-|-|\n{rows}")
}

fn row(mutant: &Mutant) -> String {
    let (test, why) = match &mutant.proof {
        Proof::NotShown(because) => ("none".to_owned(), format!("no test can fail: {because}")),
        Proof::Case(_, reasons) => (format!("`{}`", mutant.proof.test()), quoted(reasons)),
        Proof::Host(package, test, reason) => (format!("`{test}` (`{package}`)"), quoted(&[reason])),
        Proof::Loom(test, reason) => (format!("`{test}`"), quoted(&[reason])),
        Proof::LeafHandlers(reason) => (format!("`{}`", mutant.proof.test()), quoted(&[reason])),
        Proof::Compiler(reason) => ("compiling the kernel".to_owned(), quoted(&[reason])),
    };
    format!("| {} | `{}` | {test} | {why} |\n", mutant.guard, mutant.name)
}

fn quoted(reasons: &[&str]) -> String {
    reasons.iter().map(|reason| format!("\"{reason}\"")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use machine::tree::root;

    fn read(path: &str) -> String {
        std::fs::read_to_string(root().join(path)).expect("cannot read the file")
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
    fn page_has_the_table() {
        let page = read("docs/mutants.md");
        assert!(
            page.contains(&table()),
            "docs/mutants.md is out of date: replace its table with the output of `cargo xtask mutants --markdown`"
        );
    }
}
