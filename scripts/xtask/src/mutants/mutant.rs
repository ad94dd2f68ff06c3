//! A guard that can be taken away, and the test that then fails.

use super::edits::{EDITS, Edit};

/// A guard, and how to see that it is missed.
pub struct Mutant {
    /// The name of the kernel without it.
    pub name: &'static str,
    /// The guard.
    pub guard: &'static str,
    /// The test that fails without it.
    pub proof: Proof,
}

/// How a missing guard is noticed.
pub enum Proof {
    /// This QEMU case fails, and one of the texts is in what it says or in its log.
    Case(&'static str, &'static [&'static str]),
    /// This test of this crate fails on the host, and says the text.
    Host(&'static str, &'static str, &'static str),
    /// As `Host`, in the kernel's library under loom.
    Loom(&'static str, &'static str),
    /// The kernel does not compile, and the compiler says the text.
    Compiler(&'static str),
    /// Nothing here can show it, for this reason.
    NotShown(&'static str),
}

impl Mutant {
    /// What takes the guard away.
    pub fn edits(&self) -> &'static [Edit] {
        EDITS.iter().find(|(name, _)| *name == self.name).map_or(&[], |(_, edits)| *edits)
    }
}

impl Proof {
    /// The test's name, as a reader would look for it.
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
