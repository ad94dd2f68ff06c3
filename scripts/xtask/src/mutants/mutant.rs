//! A mutant: a kernel without one guard, and the test that fails on this kernel.

use super::edits::{EDITS, Edit};

/// A kernel without one guard.
pub struct Mutant {
    /// The mutant's name.
    pub name: &'static str,
    /// The guard that the mutant lacks.
    pub guard: &'static str,
    /// The test that fails without the guard.
    pub proof: Proof,
}

/// How the removal of a guard is detected.
pub enum Proof {
    /// This QEMU case fails, and its error or log contains one of these texts.
    Case(&'static str, &'static [&'static str]),
    /// A host test (crate, test name) fails and prints this text.
    Host(&'static str, &'static str, &'static str),
    /// A loom test of the kernel's library fails and prints this text.
    Loom(&'static str, &'static str),
    /// The check `check::leaf-handlers` fails and prints this text.
    LeafHandlers(&'static str),
    /// The kernel does not compile, and the compiler prints this text.
    Compiler(&'static str),
    /// No test can detect the mutant in this environment, for this reason.
    NotShown(&'static str),
}

impl Mutant {
    /// Returns the edits that remove the guard.
    pub fn edits(&self) -> &'static [Edit] {
        EDITS.iter().find(|(name, _)| *name == self.name).map_or(&[], |(_, edits)| *edits)
    }
}

impl Proof {
    /// Returns the test's name for the output.
    pub fn test(&self) -> String {
        match self {
            Proof::Case(name, _) => (*name).to_owned(),
            Proof::Host(package, test, _) => format!("{test} ({package})"),
            Proof::Loom(test, _) => format!("{test} (kernel)"),
            Proof::LeafHandlers(_) => "check::leaf-handlers".to_owned(),
            Proof::Compiler(_) => "compiling the kernel".to_owned(),
            Proof::NotShown(_) => "none".to_owned(),
        }
    }
}
