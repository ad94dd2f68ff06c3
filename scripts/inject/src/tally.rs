//! Counts survived injections, and describes failures.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::code::Code;
use super::driver::Event;
use super::error::InjectError;

/// An injection that the kernel did not survive, or a boot that did not run as expected.
#[derive(Debug)]
pub struct Failure {
    /// The error.
    pub error: InjectError,
    /// The path and the CPU, if a CPU was on a path.
    pub path: Option<(&'static str, usize)>,
    /// The address of the instruction at which an injection failed.
    pub address: Option<u64>,
}

impl Failure {
    /// Creates a failure at one instruction of a path.
    pub fn at(error: InjectError, path: &'static str, cpu: usize, address: u64) -> Failure {
        Failure { address: Some(address), ..Failure::on(error, path, cpu) }
    }

    /// Creates a failure on a path, outside any injection.
    pub fn on(error: InjectError, path: &'static str, cpu: usize) -> Failure {
        Failure { error, path: Some((path, cpu)), address: None }
    }
}

impl From<InjectError> for Failure {
    fn from(error: InjectError) -> Failure {
        Failure { error, path: None, address: None }
    }
}

/// One injection: path, CPU and address of the instruction.
pub type Injection = (&'static str, usize, u64);

/// Required and survived injections of one kind of event.
#[derive(Default)]
pub struct Injections {
    /// The required injections, grouped by path in the order of the boots.
    pub required: Vec<Injection>,
    /// The injections that the kernel survived.
    pub survived: BTreeSet<Injection>,
}

/// All injections, by kind of event.
#[derive(Default)]
pub struct Tally {
    /// NMIs.
    pub nmis: Injections,
    /// Debug exceptions in ring 0.
    pub debugs: Injections,
    /// Machine checks.
    pub machine_checks: Injections,
}

impl Tally {
    /// Returns the injections of one kind of event.
    pub fn of(&mut self, event: Event) -> &mut Injections {
        match event {
            Event::Nmi => &mut self.nmis,
            Event::Debug => &mut self.debugs,
            Event::MachineCheck => &mut self.machine_checks,
        }
    }

    /// Counts an injection as survived.
    pub fn count(&mut self, event: Event, path: &'static str, cpu: usize, address: u64) {
        self.of(event).survived.insert((path, cpu, address));
    }

    /// Returns whether every required injection was survived.
    pub fn is_complete(&self) -> bool {
        self.kinds().into_iter().all(|(_, injections)| injections.missing().is_empty())
    }

    /// Returns whether no injection is required.
    pub fn is_empty(&self) -> bool {
        self.kinds().into_iter().all(|(_, injections)| injections.required.is_empty())
    }

    /// Returns the injections of each kind with the kind's name.
    pub fn kinds(&self) -> [(&'static str, &Injections); 3] {
        [("NMI", &self.nmis), ("#DB", &self.debugs), ("#MC", &self.machine_checks)]
    }

    /// Formats a table with a row for each path.
    pub fn table(&self, cpus: &[usize]) -> String {
        let mut text = format!("{:<18}", "PATH");
        let kinds: Vec<_> =
            self.kinds().into_iter().filter(|(_, injections)| !injections.required.is_empty()).collect();
        for (kind, _) in &kinds {
            cpus.iter().for_each(|cpu| text += &format!("{:>16}", format!("{kind} on CPU {cpu}")));
        }
        for path in self.paths() {
            text += &format!("\n{path:<18}");
            for (_, injections) in &kinds {
                cpus.iter().for_each(|&cpu| text += &format!("{:>16}", injections.share(path, cpu)));
            }
        }
        text
    }

    fn paths(&self) -> Vec<&'static str> {
        let mut paths = Vec::new();
        for (path, ..) in self.kinds().into_iter().flat_map(|(_, injections)| &injections.required) {
            if !paths.contains(path) {
                paths.push(path);
            }
        }
        paths
    }
}

impl Injections {
    /// Returns the required injections that were not survived.
    pub fn missing(&self) -> Vec<Injection> {
        self.required.iter().filter(|injection| !self.survived.contains(*injection)).copied().collect()
    }

    /// Returns the numbers of survived and required injections.
    pub fn counts(&self) -> (usize, usize) {
        (self.required.len() - self.missing().len(), self.required.len())
    }

    /// Returns the number of distinct instructions at which injections are required.
    pub fn instructions(&self) -> usize {
        self.required.iter().map(|(.., address)| address).collect::<BTreeSet<_>>().len()
    }

    fn share(&self, path: &str, cpu: usize) -> String {
        let required = || self.required.iter().filter(|injection| (injection.0, injection.1) == (path, cpu));
        let survived = required().filter(|injection| self.survived.contains(*injection)).count();
        match required().count() {
            0 => "-".to_owned(),
            count => format!("{survived}/{count}"),
        }
    }

    /// Returns the counts and the missing injections as JSON.
    pub fn json(&self, code: &Code) -> Value {
        let (survived, required) = self.counts();
        let missing: Vec<_> = self
            .missing()
            .into_iter()
            .map(|(path, cpu, address)| json!({ "path": path, "cpu": cpu, "at": code.place(address).to_string() }))
            .collect();
        json!({ "stood": survived, "wanted": required, "instructions": self.instructions(), "missing": missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tally_with_a_missing_injection_is_not_complete() {
        let mut tally = Tally::default();
        tally.nmis.required = vec![("sysret", 0, 1), ("sysret", 0, 2), ("sysret", 1, 1)];
        tally.count(Event::Nmi, "sysret", 0, 1);
        tally.count(Event::Nmi, "sysret", 1, 1);
        tally.count(Event::Nmi, "nowhere", 0, 9);
        assert!(!tally.is_complete());
        assert_eq!(tally.nmis.missing(), [("sysret", 0, 2)]);
        assert_eq!((tally.nmis.counts(), tally.nmis.instructions()), ((2, 3), 2));
        let table = tally.table(&[0, 1]);
        assert!(table.contains("1/2") && table.contains("1/1"), "{table}");
        tally.count(Event::Nmi, "sysret", 0, 2);
        assert!(tally.is_complete());
    }
}
