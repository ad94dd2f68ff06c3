//! The result of a campaign: what is written as JSON, and read again by `merge`.

use std::io::Write;
use std::path::{Path, PathBuf};

use machine::error::Error;
use machine::verify::Outcome;
use serde::{Deserialize, Serialize};

use super::error::{StressError, VERSION};
use super::seeds::Seed;

/// A campaign, or several joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// [`VERSION`].
    pub ringside_stress: u32,
    /// Name of the worst outcome of all boots.
    pub outcome: String,
    /// The boots, in the order of their seeds in the order.
    pub boots: Vec<Boot>,
    /// Seeds that were to be booted and were not.
    pub not_booted: Vec<Seed>,
}

/// One boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// What its randomness came from.
    pub seed: Seed,
    /// The command that boots it again. Two boots with one command are the same test.
    pub replay: String,
    /// As in `run`: pass, failed, panic, timeout, host.
    #[serde(with = "outcome_name")]
    pub outcome: Outcome,
    /// From QEMU's start to the verdict, or to QEMU's end if there was none.
    pub seconds: f64,
    /// What is wrong, first things first.
    pub problems: Vec<Trouble>,
    /// What went wrong without making it fail.
    pub warnings: Vec<String>,
    /// Where the log is, if it failed.
    pub log: Option<PathBuf>,
    /// Where the trace is, if it was kept.
    #[serde(default)]
    pub trace: Option<PathBuf>,
    /// What each CPU did.
    pub cpus: Vec<CpuResult>,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The CPU, if it is that of one.
    pub cpu: Option<u32>,
    /// A sentence that names the CPU.
    pub what: String,
}

/// What a CPU did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuResult {
    /// Dense index.
    pub cpu: u32,
    /// System calls by the kernel's count.
    pub syscalls: u64,
    /// By number; the last counts those beyond the table. Empty if the kernel did not tell.
    pub counts: Vec<u64>,
    /// Calls of the mix by the program's count, if it told.
    pub calls: Option<u64>,
    /// Written lines that came.
    pub lines: u64,
    /// Timer ticks.
    pub ticks: u64,
}

impl Boot {
    /// System calls by the kernel's count, over all CPUs.
    pub fn syscalls(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.syscalls).sum()
    }

    /// Is it a pass?
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Pass
    }
}

impl Campaign {
    /// Of these boots; the outcome is worked out.
    pub fn of(boots: Vec<Boot>, not_booted: Vec<Seed>) -> Campaign {
        let outcome = worst(boots.iter().map(|boot| boot.outcome)).name().to_owned();
        Campaign { ringside_stress: VERSION, outcome, boots, not_booted }
    }

    /// The outcome of the whole.
    pub fn outcome(&self) -> Outcome {
        worst(self.boots.iter().map(|boot| boot.outcome))
    }

    /// Writes it, whole or not at all: a campaign that is ended leaves what it had written before.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        // A struct of numbers and texts always becomes JSON.
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        if path == Path::new("-") {
            // Whoever closed the pipe does not want it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return Ok(());
        }
        let part = path.with_added_extension("part");
        let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path));
        written.map_err(|error| Error::file("write", path, error))
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(path: &Path) -> Result<Campaign, Error> {
        #[derive(Deserialize)]
        struct Version {
            ringside_stress: u32,
        }
        let text = std::fs::read_to_string(path).map_err(|error| Error::file("read", path, error))?;
        let bad = |error: serde_json::Error| StressError::NoResult(path.to_owned(), error.to_string());
        let version: Version = serde_json::from_str(&text).map_err(bad)?;
        if version.ringside_stress != VERSION {
            return Err(StressError::OtherVersion(path.to_owned(), version.ringside_stress).into());
        }
        Ok(serde_json::from_str(&text).map_err(bad)?)
    }
}

/// The outcome of several boots: what says most about the kernel first.
pub fn worst(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    const RANKS: [Outcome; 6] =
        [Outcome::Panic, Outcome::Failed, Outcome::Timeout, Outcome::Host, Outcome::Usage, Outcome::Pass];
    let rank = |outcome: &Outcome| RANKS.iter().position(|ranked| ranked == outcome);
    outcomes.min_by_key(rank).unwrap_or(Outcome::Pass)
}

/// An outcome is written as its name.
mod outcome_name {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use machine::verify::Outcome;

    pub fn serialize<S: Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(outcome.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Outcome::ALL.into_iter().find(|outcome| outcome.name() == name);
        found.ok_or_else(|| D::Error::custom(format!("there is no outcome {name:?}")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A boot of two CPUs with an outcome.
    pub fn boot(seed: u64, outcome: Outcome) -> Boot {
        let cpu = |cpu| CpuResult {
            cpu,
            syscalls: 1000,
            counts: vec![1000; 17],
            calls: Some(990),
            lines: 12,
            ticks: 50,
        };
        let trouble = Trouble { cpu: Some(1), what: "CPU 1: violation: rbx".to_owned() };
        Boot {
            seed: Seed(seed),
            replay: format!("cargo xtask stress --smp 2 --seed {}", Seed(seed)),
            outcome,
            seconds: 0.5,
            problems: if outcome == Outcome::Pass { vec![] } else { vec![trouble] },
            warnings: Vec::new(),
            log: (outcome != Outcome::Pass).then(|| format!("target/stress-logs/{seed}.log").into()),
            trace: None,
            cpus: vec![cpu(0), cpu(1)],
        }
    }

    #[test]
    fn a_result_reads_back_as_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("result.json");
        let campaign =
            Campaign::of(vec![boot(1, Outcome::Pass), boot(u64::MAX, Outcome::Timeout)], vec![Seed(3)]);
        campaign.write(&path).expect("writes");
        assert_eq!(Campaign::read(&path).expect("reads"), campaign);
        assert_eq!(campaign.outcome, "timeout");
    }

    #[test]
    fn what_is_no_result_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("result.json");
        for (text, word) in [
            ("{}", "no result"),
            ("", "no result"),
            ("{\"ringside_stress\": 99}", "version 99"),
            ("{\"ringside_stress\": 1, \"boots\": 5}", "no result"),
        ] {
            std::fs::write(&path, text).expect("writes");
            let error = Campaign::read(&path).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("result.json"), "{error}");
        }
        assert!(Campaign::read(&folder.path().join("none")).is_err());
    }

    #[test]
    fn a_panic_outweighs_a_failure_and_that_a_time_out() {
        use Outcome::{Failed, Host, Panic, Pass, Timeout};
        assert_eq!(worst([Pass, Failed, Panic, Timeout].into_iter()), Panic);
        assert_eq!(worst([Host, Timeout, Failed, Pass].into_iter()), Failed);
        assert_eq!(worst([Host, Timeout].into_iter()), Timeout);
        assert_eq!(worst([Pass, Host].into_iter()), Host);
        assert_eq!(worst([].into_iter()), Pass);
    }
}
