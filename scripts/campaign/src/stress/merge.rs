//! The subcommand `merge`: merges the results of several campaigns into one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use machine::error::Error;
use machine::verify::{Outcome, worst};
use output::{eprint, eprintln, print, printable_lines};

use super::html;
use super::options::MergeOptions;
use super::result::{Boot, Campaign};
use super::seeds::Seed;
use super::table;

/// A merged result with its warnings.
#[derive(Debug, PartialEq)]
struct Merged {
    campaign: Campaign,
    /// Warnings about boots that occur in two results with the same outcome.
    duplicates: Vec<String>,
    /// Warnings about boots that occur in two results with different outcomes. The worse outcome counts.
    conflicts: Vec<String>,
    /// Number of distinct replay commands, ignoring the seed.
    option_sets: usize,
}

/// Reads and merges the results, and prints the table. Returns the exit status of a campaign with all these boots.
pub fn run(options: &MergeOptions) -> Result<ExitCode, Error> {
    let required = options.seeds.map(|range| range.seeds()).transpose()?.unwrap_or_default();
    let read = |path: &PathBuf| Ok((path.clone(), Campaign::read(path)?));
    let results = options.results.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
    let merged = join(results, &required);
    for text in merged.duplicates.iter().chain(&merged.conflicts) {
        eprintln!("warning: {}", printable_lines(text));
    }
    if merged.option_sets > 1 {
        eprintln!("warning: the results were produced with {} different sets of options", merged.option_sets);
    }
    let text = table::text(&merged.campaign);
    let to_stdout = options.json.as_deref() == Some(Path::new("-"));
    if to_stdout {
        eprint!("{text}")
    } else {
        print!("{text}")
    }
    let mut outcome = merged.campaign.outcome();
    if let Some(path) = &options.json {
        outcome = outcome.and_written(merged.campaign.write(path));
    }
    if let Some(path) = &options.report {
        outcome = outcome.and_written(html::write(path, &merged.campaign, &BTreeMap::new()));
    }
    let seeds = &merged.campaign.not_booted;
    if !seeds.is_empty() {
        let list: Vec<_> = seeds.iter().take(10).map(Seed::to_string).collect();
        let more = if seeds.len() > 10 { ", ..." } else { "" };
        eprintln!("error: seeds not booted: {} ({}{more})", seeds.len(), list.join(", "));
    }
    let missing = if merged.campaign.not_booted.is_empty() { Outcome::Pass } else { Outcome::Host };
    Ok(worst([outcome, missing].into_iter()).exit_code())
}

/// Merges results. Boots with the same replay command count as the same boot. Each seed in `required` must have a boot.
fn join(results: Vec<(PathBuf, Campaign)>, required: &[Seed]) -> Merged {
    let mut boots: BTreeMap<(Seed, String), (PathBuf, Boot)> = BTreeMap::new();
    let mut missing: BTreeSet<Seed> = required.iter().copied().collect();
    let mut option_sets = BTreeSet::new();
    let (mut duplicates, mut conflicts) = (Vec::new(), Vec::new());
    for (path, campaign) in results {
        missing.extend(campaign.not_booted);
        for boot in campaign.boots {
            option_sets.insert(boot.replay.replace(&boot.seed.to_string(), "SEED"));
            let key = (boot.seed, boot.replay.clone());
            let Some((other, kept)) = boots.get_mut(&key) else {
                boots.insert(key, (path.clone(), boot));
                continue;
            };
            let files = format!("{} and {}", other.display(), path.display());
            if kept.outcome == boot.outcome {
                duplicates.push(format!("seed {} is in {files}; it counts once", boot.seed));
                continue;
            }
            conflicts.push(format!(
                "seed {} has two outcomes, {} and {}, in {files}: the outcome is not reproducible",
                boot.seed,
                kept.outcome.name(),
                boot.outcome.name()
            ));
            if worst([kept.outcome, boot.outcome].into_iter()) == boot.outcome {
                (*other, *kept) = (path.clone(), boot);
            }
        }
    }
    let boots: Vec<_> = boots.into_values().map(|(_, boot)| boot).collect();
    for boot in &boots {
        missing.remove(&boot.seed);
    }
    let campaign = Campaign::of(boots, missing.into_iter().collect());
    Merged { campaign, duplicates, conflicts, option_sets: option_sets.len() }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::boot;
    use super::*;
    use machine::verify::Outcome::{Failed, Pass, Timeout};

    fn result(name: &str, boots: Vec<Boot>, not_booted: &[u64]) -> (PathBuf, Campaign) {
        (name.into(), Campaign::of(boots, not_booted.iter().map(|&seed| Seed(seed)).collect()))
    }

    fn outcomes(merged: &Merged) -> Vec<(u64, Outcome)> {
        merged.campaign.boots.iter().map(|boot| (boot.seed.0, boot.outcome)).collect()
    }

    #[test]
    fn boots_are_sorted_by_seed() {
        let merged = join(
            vec![
                result("a", vec![boot(20, Pass), boot(3, Failed)], &[]),
                result("b", vec![boot(7, Pass)], &[]),
            ],
            &[],
        );
        assert_eq!(outcomes(&merged), [(3, Failed), (7, Pass), (20, Pass)]);
        assert_eq!((merged.duplicates.len(), merged.conflicts.len(), merged.option_sets), (0, 0, 1));
        assert_eq!(merged.campaign.outcome(), Failed);
    }

    #[test]
    fn duplicate_boot_counts_once_and_is_reported() {
        let merged =
            join(vec![result("a", vec![boot(1, Pass)], &[]), result("b", vec![boot(1, Pass)], &[])], &[]);
        assert_eq!(outcomes(&merged), [(1, Pass)]);
        assert_eq!(merged.duplicates, ["seed 0x1 is in a and b; it counts once"]);
        assert!(merged.conflicts.is_empty());
    }

    #[test]
    fn worse_of_two_outcomes_counts() {
        for pair in [[Pass, Timeout], [Timeout, Pass]] {
            let results = pair.map(|outcome| result("x", vec![boot(1, outcome)], &[])).into();
            let merged = join(results, &[]);
            assert_eq!(outcomes(&merged), [(1, Timeout)]);
            assert_eq!(merged.conflicts.len(), 1);
            assert!(merged.duplicates.is_empty());
        }
    }

    #[test]
    fn same_seed_with_other_options_is_another_boot() {
        let mut other = boot(1, Failed);
        other.replay = other.replay.replace("--smp 2", "--smp 8");
        let merged = join(vec![result("a", vec![boot(1, Pass)], &[]), result("b", vec![other], &[])], &[]);
        assert_eq!(merged.campaign.boots.len(), 2);
        assert_eq!((merged.conflicts.len(), merged.option_sets), (0, 2));
    }

    #[test]
    fn seeds_without_boot_are_missing() {
        let results = vec![result("a", vec![boot(1, Pass)], &[2, 3]), result("b", vec![boot(2, Pass)], &[])];
        let required: Vec<_> = (1..6).map(Seed).collect();
        assert_eq!(join(results.clone(), &[]).campaign.not_booted, [Seed(3)]);
        assert_eq!(join(results, &required).campaign.not_booted, [Seed(3), Seed(4), Seed(5)]);
    }
}
