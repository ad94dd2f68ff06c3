//! The classes of probes. A probe is one attempt to harm the kernel (see `probe`).

/// The class of a probe. The discriminant is the index of the class among the counters in the shared page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Class {
    /// The initial state of a copy.
    Start,
    /// System-call numbers.
    Numbers,
    /// Memory ranges passed to a call.
    Pointers,
    /// Memory ranges in the page that all CPUs rewrite concurrently.
    Shared,
    /// Flags across a system call.
    Flags,
    /// Stack pointers across a system call.
    Stacks,
    /// Flags and stack pointers while ticks arrive.
    Ticks,
    /// Instructions that ring 3 may execute.
    Harmless,
    /// Instructions that ring 3 must not be able to execute.
    Privileged,
    /// `int n`, `int3` and `int1`.
    Interrupts,
    /// Far jumps, far calls, far returns, and `iretq`.
    Far,
    /// Loads into segment registers.
    Segments,
    /// Accesses to memory that is unmapped or does not permit them.
    Memory,
    /// Exceptions with invalid stack pointers and unusual flags.
    Faults,
    /// `SYS_EXIT` with invalid stack pointers and unusual flags.
    Exits,
    /// Random bytes executed as code.
    Random,
}

impl Class {
    /// The number of classes.
    pub const COUNT: usize = 16;

    /// Every class with its name, in the order of the discriminants.
    pub const ALL: [(Class, &'static str); Class::COUNT] = [
        (Class::Start, "start"),
        (Class::Numbers, "numbers"),
        (Class::Pointers, "pointers"),
        (Class::Shared, "shared"),
        (Class::Flags, "flags"),
        (Class::Stacks, "stacks"),
        (Class::Ticks, "ticks"),
        (Class::Harmless, "harmless"),
        (Class::Privileged, "privileged"),
        (Class::Interrupts, "interrupts"),
        (Class::Far, "far"),
        (Class::Segments, "segments"),
        (Class::Memory, "memory"),
        (Class::Faults, "faults"),
        (Class::Exits, "exits"),
        (Class::Random, "random"),
    ];

    /// Returns the class's name.
    pub fn name(self) -> &'static str {
        Class::ALL[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_are_indices() {
        assert!(Class::ALL.iter().enumerate().all(|(place, (class, _))| *class as usize == place));
    }
}
