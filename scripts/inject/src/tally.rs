//! What was struck, out of what there is; and what failed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::code::Code;
use super::error::InjectError;
use super::trip::Deed;

/// A strike that was not stood, or a boot that did not go as it has to.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong.
    pub error: InjectError,
    /// The path and the CPU on it, if it was on one.
    pub path: Option<(&'static str, usize)>,
    /// The instruction, if it was a strike.
    pub address: Option<u64>,
}

impl Failure {
    /// At one instruction of a path.
    pub fn at(error: InjectError, path: &'static str, cpu: usize, address: u64) -> Failure {
        Failure { address: Some(address), ..Failure::on(error, path, cpu) }
    }

    /// On a path, but at no strike.
    pub fn on(error: InjectError, path: &'static str, cpu: usize) -> Failure {
        Failure { error, path: Some((path, cpu)), address: None }
    }
}

impl From<InjectError> for Failure {
    fn from(error: InjectError) -> Failure {
        Failure { error, path: None, address: None }
    }
}

/// One instruction on one path on one CPU.
pub type Strike = (&'static str, usize, u64);

/// The strikes of one kind.
#[derive(Default)]
pub struct Strikes {
    /// Those that there have to be, by path in the order of the boots.
    pub wanted: Vec<Strike>,
    /// Those that were stood.
    pub stood: BTreeSet<Strike>,
}

/// All strikes.
#[derive(Default)]
pub struct Tally {
    /// NMIs.
    pub nmis: Strikes,
    /// Debug exceptions in ring 0.
    pub debugs: Strikes,
    /// Machine checks.
    pub machine_checks: Strikes,
}

impl Tally {
    /// Those of one kind.
    pub fn of(&mut self, deed: Deed) -> &mut Strikes {
        match deed {
            Deed::Nmi => &mut self.nmis,
            Deed::Debug => &mut self.debugs,
            Deed::MachineCheck => &mut self.machine_checks,
        }
    }

    /// A strike was stood.
    pub fn count(&mut self, deed: Deed, path: &'static str, cpu: usize, address: u64) {
        self.of(deed).stood.insert((path, cpu, address));
    }

    /// Has every strike been stood that there has to be?
    pub fn is_whole(&self) -> bool {
        self.kinds().into_iter().all(|(_, strikes)| strikes.missing().is_empty())
    }

    /// Is nothing to be struck?
    pub fn is_empty(&self) -> bool {
        self.kinds().into_iter().all(|(_, strikes)| strikes.wanted.is_empty())
    }

    /// Each kind with its name.
    pub fn kinds(&self) -> [(&'static str, &Strikes); 3] {
        [("NMI", &self.nmis), ("#DB", &self.debugs), ("#MC", &self.machine_checks)]
    }

    /// A line for each path.
    pub fn table(&self, cpus: &[usize]) -> String {
        let mut text = format!("{:<18}", "PATH");
        let kinds: Vec<_> =
            self.kinds().into_iter().filter(|(_, strikes)| !strikes.wanted.is_empty()).collect();
        for (kind, _) in &kinds {
            cpus.iter().for_each(|cpu| text += &format!("{:>16}", format!("{kind} on CPU {cpu}")));
        }
        for path in self.paths() {
            text += &format!("\n{path:<18}");
            for (_, strikes) in &kinds {
                cpus.iter().for_each(|&cpu| text += &format!("{:>16}", strikes.share(path, cpu)));
            }
        }
        text
    }

    fn paths(&self) -> Vec<&'static str> {
        let mut paths = Vec::new();
        for (path, ..) in self.kinds().into_iter().flat_map(|(_, strikes)| &strikes.wanted) {
            if !paths.contains(path) {
                paths.push(path);
            }
        }
        paths
    }
}

impl Strikes {
    /// Those that are not stood.
    pub fn missing(&self) -> Vec<Strike> {
        self.wanted.iter().filter(|strike| !self.stood.contains(*strike)).copied().collect()
    }

    /// How many there are, and how many there have to be.
    pub fn counts(&self) -> (usize, usize) {
        (self.wanted.len() - self.missing().len(), self.wanted.len())
    }

    /// How many different instructions there have to be.
    pub fn instructions(&self) -> usize {
        self.wanted.iter().map(|(.., address)| address).collect::<BTreeSet<_>>().len()
    }

    fn share(&self, path: &str, cpu: usize) -> String {
        let wanted = || self.wanted.iter().filter(|strike| (strike.0, strike.1) == (path, cpu));
        let stood = wanted().filter(|strike| self.stood.contains(*strike)).count();
        match wanted().count() {
            0 => "-".to_owned(),
            count => format!("{stood}/{count}"),
        }
    }

    /// For a machine to read.
    pub fn json(&self, code: &Code) -> Value {
        let (stood, wanted) = self.counts();
        let missing: Vec<_> = self
            .missing()
            .into_iter()
            .map(|(path, cpu, address)| json!({ "path": path, "cpu": cpu, "at": code.place(address).to_string() }))
            .collect();
        json!({ "stood": stood, "wanted": wanted, "instructions": self.instructions(), "missing": missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_no_whole() {
        let mut tally = Tally::default();
        tally.nmis.wanted = vec![("sysret", 0, 1), ("sysret", 0, 2), ("sysret", 1, 1)];
        tally.count(Deed::Nmi, "sysret", 0, 1);
        tally.count(Deed::Nmi, "sysret", 1, 1);
        tally.count(Deed::Nmi, "nowhere", 0, 9);
        assert!(!tally.is_whole());
        assert_eq!(tally.nmis.missing(), [("sysret", 0, 2)]);
        assert_eq!((tally.nmis.counts(), tally.nmis.instructions()), ((2, 3), 2));
        let table = tally.table(&[0, 1]);
        assert!(table.contains("1/2") && table.contains("1/1"), "{table}");
        tally.count(Deed::Nmi, "sysret", 0, 2);
        assert!(tally.is_whole());
    }
}
