//! The CPU state on which the system-call path depends: the registers that must differ between CPUs, and those that
//! must be equal.

/// The required relation between the values of one register on all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// No two CPUs have the same value.
    Own,
    /// All CPUs have the same value.
    Same,
}

/// The number of registers.
pub const COUNT: usize = 26;

/// The registers, in the order in which a state record lists them.
pub const REGISTERS: [(&str, Rule); COUNT] = [
    ("TR", Rule::Same),
    ("TSS", Rule::Own),
    ("LDTR", Rule::Same),
    ("GDT", Rule::Own),
    ("GDT limit", Rule::Same),
    ("IDT", Rule::Same),
    ("IDT limit", Rule::Same),
    ("RSP0", Rule::Own),
    ("IST1", Rule::Own),
    ("IST2", Rule::Own),
    ("IST3", Rule::Own),
    ("IST4", Rule::Own),
    ("GS base", Rule::Own),
    ("KERNEL_GS_BASE", Rule::Same),
    ("CR0", Rule::Same),
    ("CR3", Rule::Same),
    ("CR4", Rule::Same),
    ("EFER", Rule::Same),
    ("PAT", Rule::Same),
    ("STAR", Rule::Same),
    ("LSTAR", Rule::Same),
    ("CSTAR", Rule::Same),
    ("FMASK", Rule::Same),
    ("SYSENTER_CS", Rule::Same),
    ("DR7", Rule::Same),
    ("DEBUGCTL", Rule::Same),
];
