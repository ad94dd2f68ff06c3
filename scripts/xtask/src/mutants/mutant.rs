//! A guard that can be removed, and the test that then fails.

use super::edits::{EDITS, Edit};

/// A guard, and the proof that it is tested.
pub struct Mutant {
    /// The name of the kernel without it.
    pub name: &'static str,
    /// The guard.
    pub guard: &'static str,
    /// The test that fails without it.
    pub proof: Proof,
}

/// How the removal of a guard is detected.
pub enum Proof {
    /// This QEMU case fails, and its error or its log contains one of the texts.
    Case(&'static str, &'static [&'static str]),
    /// This test of this crate fails on the host, and prints the text.
    Host(&'static str, &'static str, &'static str),
    /// This test of the kernel's library fails under loom, and prints the text.
    Loom(&'static str, &'static str),
    /// The kernel does not compile, and the compiler prints the text.
    Compiler(&'static str),
    /// No test can show it here, for this reason.
    NotShown(&'static str),
}

impl Mutant {
    /// The edits that remove the guard.
    pub fn edits(&self) -> &'static [Edit] {
        EDITS.iter().find(|(name, _)| *name == self.name).map_or(&[], |(_, edits)| *edits)
    }
}

impl Proof {
    /// The test's name, as it is printed.
    pub fn test(&self) -> String {
        match self {
            Proof::Case(name, _) => (*name).to_owned(),
            Proof::Host(package, test, _) => format!("{test} ({package})"),
            Proof::Loom(test, _) => format!("{test} (kernel)"),
            Proof::Compiler(_) => "compiling the kernel".to_owned(),
            Proof::NotShown(_) => "none".to_owned(),
        }
    }
}
