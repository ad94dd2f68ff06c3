//! The classes of probes.

/// What a probe is about. The discriminant is the class's place among the counters in the shared page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Class {
    /// What a copy finds at its start.
    Start,
    /// System-call numbers.
    Numbers,
    /// Ranges of memory given to a call.
    Pointers,
    /// The same in the page that all CPUs rewrite meanwhile.
    Shared,
    /// Flags over a call.
    Flags,
    /// Stack pointers over a call.
    Stacks,
    /// Flags and stack pointers while ticks come.
    Ticks,
    /// Instructions that ring 3 may execute.
    Harmless,
    /// Instructions that it may not.
    Privileged,
    /// `int n` and its kin.
    Interrupts,
    /// Far jumps, calls and returns, `iretq`.
    Far,
    /// Loads of segment registers.
    Segments,
    /// Memory that is not there, or not for this.
    Memory,
    /// Exceptions with stack pointers and flags that no handler should meet.
    Faults,
    /// The same when the program ends by itself.
    Exits,
    /// Random bytes as code.
    Random,
}

impl Class {
    /// How many there are.
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

    /// The word for it.
    pub fn name(self) -> &'static str {
        Class::ALL[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_at_its_place() {
        assert!(Class::ALL.iter().enumerate().all(|(place, (class, _))| *class as usize == place));
    }
}
