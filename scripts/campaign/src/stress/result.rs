//! The result of a campaign, written as JSON and read by `merge`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kernel_abi::syscall::TABLE_LEN;

use machine::error::Error;
use machine::report::sum;
use machine::verify::{Outcome, worst};
use output::count;
use serde::{Deserialize, Serialize};
use trace::input;

use super::error::{StressError, VERSION};
use super::seeds::Seed;

/// Maximum size of a result in bytes. A campaign with the maximum number of seeds on four CPUs takes about half of
/// that.
const SIZE_MAX: u64 = 4 << 30;

/// Number of counts of system calls: the table, and all numbers beyond it.
const COUNTS: usize = TABLE_LEN + 1;

/// The result of a campaign, or of several merged campaigns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// The version of the file's layout: [`VERSION`].
    pub ringside_stress: u32,
    /// Name of the worst outcome of the boots.
    pub outcome: String,
    /// The completed boots, in the order of the campaign's seeds.
    pub boots: Vec<Boot>,
    /// The campaign's seeds that were not booted.
    pub not_booted: Vec<Seed>,
}

/// The result of one boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// The seed of the boot's random choices.
    pub seed: Seed,
    /// The command that repeats the boot. Two boots with the same command are the same test.
    pub replay: String,
    /// The outcome, as in `run`: pass, failed, panic, timeout or host.
    #[serde(with = "outcome_name")]
    pub outcome: Outcome,
    /// Time from QEMU's start to the kernel's verdict, or to QEMU's exit if there was none.
    pub seconds: f64,
    /// The problems, causes first.
    pub problems: Vec<ProblemRecord>,
    /// Problems that do not fail the boot.
    pub warnings: Vec<String>,
    /// Path of the log, if the boot failed.
    pub log: Option<PathBuf>,
    /// Path of the trace, if it was kept.
    #[serde(default)]
    pub trace: Option<PathBuf>,
    /// The counts of each CPU.
    pub cpus: Vec<CpuResult>,
}

/// A problem, as stored in the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemRecord {
    /// The affected CPU; `None` if the problem does not concern one CPU.
    pub cpu: Option<u32>,
    /// The message, which also names the CPU.
    pub what: String,
}

/// The counts of a CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuResult {
    /// Dense index.
    pub cpu: u32,
    /// System calls by the kernel's count.
    pub syscalls: u64,
    /// System calls by number. The last element counts all numbers beyond the system-call table. Empty if unknown.
    pub counts: Vec<u64>,
    /// Calls that the program made from its `--mix`, by its own count; `None` if its summary line was not received.
    pub calls: Option<u64>,
    /// Numbered lines of the program that were received.
    pub lines: u64,
    /// Timer ticks.
    pub ticks: u64,
}

impl Boot {
    /// Returns the system calls of all CPUs by the kernel's count.
    pub fn syscalls(&self) -> u64 {
        sum(self.cpus.iter().map(|cpu| cpu.syscalls))
    }

    /// Returns why this result is impossible for a boot, or `None` if it is possible.
    fn flaw(&self) -> Option<String> {
        if !(0.0..f64::INFINITY).contains(&self.seconds) {
            return Some(format!("a duration of {} s", self.seconds));
        }
        if self.passed() && !self.problems.is_empty() {
            return Some(format!("a pass with {}", count(self.problems.len() as u64, "problem")));
        }
        let mut seen = BTreeSet::new();
        self.cpus.iter().find_map(|cpu| match cpu.counts.len() {
            _ if !seen.insert(cpu.cpu) => Some(format!("CPU {} occurs twice", cpu.cpu)),
            0 | COUNTS => None,
            counts => {
                Some(format!("CPU {} has {counts} counts of system calls instead of {COUNTS}", cpu.cpu))
            }
        })
    }

    /// Returns whether the boot passed.
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Pass
    }
}

impl Campaign {
    /// Creates the result of these boots. Its outcome is their worst.
    pub fn of(boots: Vec<Boot>, not_booted: Vec<Seed>) -> Campaign {
        let outcome = worst(boots.iter().map(|boot| boot.outcome)).name().to_owned();
        Campaign { ringside_stress: VERSION, outcome, boots, not_booted }
    }

    /// Returns the worst outcome of the boots.
    pub fn outcome(&self) -> Outcome {
        worst(self.boots.iter().map(|boot| boot.outcome))
    }

    /// Returns why this result is impossible for a campaign, or `None` if it is possible.
    fn flaw(&self) -> Option<String> {
        let of = |boot: &Boot| boot.flaw().map(|flaw| format!("seed {}: {flaw}", boot.seed));
        self.boots.iter().find_map(of).or_else(|| {
            let outcome = self.outcome().name();
            (self.outcome != outcome)
                .then(|| format!("its outcome is {:?}, but that of its boots is {outcome:?}", self.outcome))
        })
    }

    /// Writes the result atomically; `-` is standard output. If the campaign is killed meanwhile, the previous result
    /// remains.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        // Serialising a struct of numbers and strings cannot fail.
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        output::write(path, text).map_err(|error| Error::file("write", path, error))
    }

    /// Reads a result that [`write`](Self::write) wrote.
    pub fn read(path: &Path) -> Result<Campaign, Error> {
        #[derive(Deserialize)]
        struct Version {
            ringside_stress: u32,
        }
        let text = input::read(path, SIZE_MAX).map_err(|error| Error::file("read", path, error))?;
        let bad = |error: serde_json::Error| StressError::NotAResult(path.to_owned(), error.to_string());
        let version: Version = serde_json::from_slice(&text).map_err(bad)?;
        if version.ringside_stress != VERSION {
            return Err(StressError::OtherVersion(path.to_owned(), version.ringside_stress).into());
        }
        let campaign: Campaign = serde_json::from_slice(&text).map_err(bad)?;
        match campaign.flaw() {
            Some(flaw) => Err(StressError::NotAResult(path.to_owned(), flaw).into()),
            None => Ok(campaign),
        }
    }
}

/// Serialises an outcome as its name.
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
        found.ok_or_else(|| D::Error::custom(format!("unknown outcome {name:?}")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a boot of two CPUs with an outcome.
    pub fn boot(seed: u64, outcome: Outcome) -> Boot {
        let cpu = |cpu| CpuResult {
            cpu,
            syscalls: 1000,
            counts: vec![1000; 17],
            calls: Some(990),
            lines: 12,
            ticks: 50,
        };
        let problem = ProblemRecord { cpu: Some(1), what: "CPU 1: violation: rbx".to_owned() };
        Boot {
            seed: Seed(seed),
            replay: format!("cargo xtask stress --smp 2 --seed {}", Seed(seed)),
            outcome,
            seconds: 0.5,
            problems: if outcome == Outcome::Pass { vec![] } else { vec![problem] },
            warnings: Vec::new(),
            log: (outcome != Outcome::Pass).then(|| format!("target/stress-logs/{seed}.log").into()),
            trace: None,
            cpus: vec![cpu(0), cpu(1)],
        }
    }

    #[test]
    fn result_reads_back_as_written() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("result.json");
        let campaign =
            Campaign::of(vec![boot(1, Outcome::Pass), boot(u64::MAX, Outcome::Timeout)], vec![Seed(3)]);
        campaign.write(&path).expect("cannot write");
        assert_eq!(Campaign::read(&path).expect("cannot read"), campaign);
        assert_eq!(campaign.outcome, "timeout");
    }

    #[test]
    fn invalid_result_files_are_reported() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("result.json");
        for (text, word) in [
            ("{}", "not a result"),
            ("", "not a result"),
            ("{\"ringside_stress\": 99}", "version 99"),
            ("{\"ringside_stress\": 1, \"boots\": 5}", "not a result"),
        ] {
            std::fs::write(&path, text).expect("cannot write");
            let error = Campaign::read(&path).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("result.json"), "{error}");
        }
        assert!(Campaign::read(&folder.path().join("none")).is_err());
    }

    #[test]
    fn worst_is_panic_then_failure_then_timeout() {
        use Outcome::{Failed, Host, Panic, Pass, Timeout};
        assert_eq!(worst([Pass, Failed, Panic, Timeout].into_iter()), Panic);
        assert_eq!(worst([Host, Timeout, Failed, Pass].into_iter()), Failed);
        assert_eq!(worst([Host, Timeout].into_iter()), Timeout);
        assert_eq!(worst([Pass, Host].into_iter()), Host);
        assert_eq!(worst([].into_iter()), Pass);
    }
}
