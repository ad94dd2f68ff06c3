//! The classes of probes.

/// The class of a probe. The discriminant is the class's index among the counters in the shared page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Class {
    /// The state of a copy at its start.
    Start,
    /// System-call numbers.
    Numbers,
    /// Ranges of memory given to a call.
    Pointers,
    /// The same in the page that all CPUs rewrite concurrently.
    Shared,
    /// Flags across a call.
    Flags,
    /// Stack pointers across a call.
    Stacks,
    /// Flags and stack pointers while ticks arrive.
    Ticks,
    /// Instructions that ring 3 may execute.
    Harmless,
    /// Instructions that ring 3 may not execute.
    Privileged,
    /// `int n`, `int3` and `int1`.
    Interrupts,
    /// Far jumps, calls and returns, `iretq`.
    Far,
    /// Loads of segment registers.
    Segments,
    /// Memory that is unmapped, or that does not permit the access.
    Memory,
    /// Exceptions with invalid stack pointers and unusual flags.
    Faults,
    /// The same with `SYS_EXIT`.
    Exits,
    /// Random bytes as code.
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
