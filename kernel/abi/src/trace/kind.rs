//! The kinds of trace events. One table defines them; the numbers, the names, the words of `trace=`, the meaning of the
//! two values in a record, and the table in the documentation are derived from it.

/// Generates [`Group`] and [`GROUPS`] from rows `VARIANT "WORD";`.
macro_rules! groups {
    ($($(#[$doc:meta])* $group:ident $word:literal;)*) => {
        /// A group of kinds that one word of `trace=` on the kernel command line enables.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Group {
            $($(#[$doc])* $group,)*
        }

        impl Group {
            /// Returns the group's word in `trace=`.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Group::$group => $word,)*
                }
            }
        }

        /// The words of `trace=` on the kernel command line, each with the mask of kinds that it enables.
        pub const GROUPS: [(&str, u32); [$($word),*].len()] = [$(($word, Group::$group.mask())),*];
    };
}

/// Generates [`Kind`] from rows `NUMBER VARIANT name [GROUP] FIELDS;`. The fields describe `a` and `b`, in this order,
/// as `name: STYLE "meaning"`, where the meaning is the text in the documentation's table. A kind without a group is
/// recorded regardless of `trace=`.
macro_rules! kinds {
    ($(
        $(#[$doc:meta])*
        $number:literal $kind:ident $name:ident [$($group:ident)?]
            $($field:ident: $style:ident $meaning:literal),*;
    )*) => {
        /// The kind of event that a record reports. Its number is the record's `kind` and its bit number in the mask of
        /// enabled kinds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $($(#[$doc])* $kind = $number,)*
        }

        impl Kind {
            /// All kinds, in the order of their numbers.
            pub const ALL: [Kind; [$($number),*].len()] = [$(Kind::$kind),*];

            /// Returns the name of the kind in text output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => stringify!($name),)*
                }
            }

            /// Returns the group that enables the kind.
            #[must_use]
            pub const fn group(self) -> Option<Group> {
                match self {
                    $(Kind::$kind => optional!($(Group::$group)?),)*
                }
            }

            /// Returns the meaning of `a` and `b` in records of this kind; `None` for an unused value.
            #[must_use]
            pub const fn fields(self) -> [Option<Field>; 2] {
                match self {
                    $(Kind::$kind => const { both(&[$(Field {
                        name: stringify!($field),
                        style: Style::$style,
                        meaning: $meaning,
                    }),*]) },)*
                }
            }
        }
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

groups! {
    /// System calls.
    Syscall "syscall";
    /// Timer ticks.
    Tick "tick";
    /// Other interrupts and NMIs.
    Interrupt "interrupt";
    /// Interprocessor interrupts.
    Ipi "ipi";
    /// Exceptions in ring 3.
    Fault "fault";
    /// Starts and ends of programs.
    Program "program";
    /// Entering and leaving the idle loop.
    Idle "idle";
    /// CPU bring-up.
    Boot "boot";
    /// Events that programs record.
    User "user";
}

kinds! {
    /// A system call entered the kernel.
    1 SyscallEnter syscall_enter [Syscall] number: Syscall "number", arg: Hex "first argument";
    /// A system call is about to return.
    2 SyscallExit syscall_exit [Syscall] number: Syscall "number", result: Result "result";
    /// A timer tick.
    3 Tick tick [Tick] ticks: Decimal "ticks so far", rip: Code "interrupted RIP";
    /// An interrupt other than the tick.
    4 Interrupt interrupt [Interrupt] vector: Hex "vector", rip: Code "interrupted RIP";
    /// This CPU sent an interprocessor interrupt. Special vectors are [`IPI_INIT`](super::IPI_INIT),
    /// [`IPI_STARTUP`](super::IPI_STARTUP) and [`IPI_NMI`](super::IPI_NMI). The destination may be
    /// [`IPI_TO_OTHERS`](super::IPI_TO_OTHERS).
    5 IpiSent ipi_sent [Ipi] vector: Ipi "vector, or INIT, SIPI, NMI", to: Destination "APIC id, or all others";
    /// This CPU received an interprocessor interrupt.
    6 IpiReceived ipi_received [Ipi] vector: Hex "vector", rip: Code "interrupted RIP";
    /// A non-maskable interrupt.
    7 Nmi nmi [Interrupt] nmis: Decimal "NMIs so far", rip: Code "interrupted RIP";
    /// An exception in ring 3.
    8 Fault fault [Fault] vector: Exception "vector", rip: Code "RIP";
    /// A program is about to start.
    9 ProgramStart program_start [Program] entry: Code "entry address", stack: Hex "stack pointer";
    /// A program has ended.
    10 ProgramEnd program_end [Program] how: Ending "0 exited, 1 killed", code: Signed "exit code";
    /// The CPU is about to halt until the next interrupt.
    11 IdleIn idle_in [Idle];
    /// The CPU continues after a halt.
    12 IdleOut idle_out [Idle];
    /// A slot changed its state during bring-up. The state is a value of `ap_trampoline::slot_state`.
    13 ApState ap_state [Boot] apic_id: Decimal "APIC id", state: Slot "state of its slot";
    /// Records before this one were dropped. Occurs only in a stream.
    14 Dropped dropped [] records: Decimal "records dropped before this one";
    /// A program called `SYS_TRACE`.
    15 User user [User] id: Decimal "id", value: Decimal "value";
}

/// The format in which a number is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A count, an id or a code.
    Decimal,
    /// A number that may be negative.
    Signed,
    /// An address or an arbitrary word.
    Hex,
    /// The address of an instruction.
    Code,
    /// A system-call number.
    Syscall,
    /// The result of a system call; a negative value is an error number.
    Result,
    /// The vector of an exception.
    Exception,
    /// The vector of a [`Kind::IpiSent`] event.
    Ipi,
    /// An APIC id, or all CPUs except the sender.
    Destination,
    /// How a program ended.
    Ending,
    /// A slot's state during bring-up.
    Slot,
}

/// The description of `a` or `b` in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name of the field.
    pub name: &'static str,
    /// The format in which the field is printed.
    pub style: Style,
    /// The meaning of the field, for the documentation.
    pub meaning: &'static str,
}

/// Converts the fields of a row, of which there are at most two.
const fn both(fields: &[Field]) -> [Option<Field>; 2] {
    match *fields {
        [] => [None, None],
        [a] => [Some(a), None],
        [a, b] => [Some(a), Some(b)],
        _ => panic!("a record cannot have more than two fields"),
    }
}

impl Kind {
    /// Returns the bit of the kind in a mask.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Returns the kind with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

impl Group {
    /// Returns the mask of the kinds in this group.
    const fn mask(self) -> u32 {
        let (mut mask, mut n) = (0, 0);
        while n < Kind::ALL.len() {
            if let Some(group) = Kind::ALL[n].group()
                && group as u8 == self as u8
            {
                mask |= Kind::ALL[n].bit();
            }
            n += 1;
        }
        mask
    }
}

/// Returns the mask of the kinds in all groups, for `trace=all`.
#[must_use]
pub const fn all_groups() -> u32 {
    let (mut mask, mut n) = (0, 0);
    while n < GROUPS.len() {
        mask |= GROUPS[n].1;
        n += 1;
    }
    mask
}

const _: () = {
    let (mut kinds, mut n) = (0, 0);
    while n < Kind::ALL.len() {
        assert!(
            Kind::ALL[n] as usize == n + 1,
            "the rows must be in the order of their numbers, from 1 and without gaps"
        );
        kinds |= Kind::ALL[n].bit();
        n += 1;
    }
    assert!(n < u32::BITS as usize, "a mask must have a bit for every kind");
    // `Dropped` is always recorded in a stream, so it needs no group.
    assert!(all_groups() == kinds & !Kind::Dropped.bit(), "a kind without a group would never be recorded");
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_number_name_and_at_most_one_group() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind as u16), Some(kind));
            let mut holding = GROUPS.iter().filter(|(_, mask)| mask & kind.bit() != 0).map(|(word, _)| *word);
            assert_eq!(holding.next(), kind.group().map(Group::word), "{}", kind.name());
            assert_eq!(holding.next(), None, "{} is in two groups", kind.name());
        }
        assert_eq!(Kind::from_number(0), None);
    }

    #[test]
    fn every_group_has_a_kind() {
        for (word, mask) in GROUPS {
            assert_ne!(mask, 0, "trace={word} enables no kind");
        }
    }
}
