//! The kinds of events: one table, from which numbers, names, the words of `trace=`, what the two numbers of a record
//! mean, and the documentation's table follow.

/// Makes [`Group`] and [`GROUPS`] out of rows `VARIANT "WORD";`.
macro_rules! groups {
    ($($(#[$doc:meta])* $group:ident $word:literal;)*) => {
        /// Kinds that are switched on together, by a word of `trace=` on the kernel's command line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Group {
            $($(#[$doc])* $group,)*
        }

        impl Group {
            /// The word of `trace=`.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Group::$group => $word,)*
                }
            }
        }

        /// The words of `trace=` on the command line, with the kinds that each switches on.
        pub const GROUPS: [(&str, u32); [$($word),*].len()] = [$(($word, Group::$group.mask())),*];
    };
}

/// Makes [`Kind`] out of rows `NUMBER VARIANT name [GROUP] FIELDS;`. A field is `name: STYLE "meaning"`, for `a` and then
/// for `b`. The last is the text in the documentation's table. A kind without a group is recorded whatever `trace=` says.
macro_rules! kinds {
    ($(
        $(#[$doc:meta])*
        $number:literal $kind:ident $name:ident [$($group:ident)?]
            $($field:ident: $style:ident $meaning:literal),*;
    )*) => {
        /// What a record reports. The number is the record's `kind` and the bit in the mask of enabled kinds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $($(#[$doc])* $kind = $number,)*
        }

        impl Kind {
            /// Every kind, in the order of the numbers.
            pub const ALL: [Kind; [$($number),*].len()] = [$(Kind::$kind),*];

            /// Its name in text output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => stringify!($name),)*
                }
            }

            /// The group that switches it on.
            #[must_use]
            pub const fn group(self) -> Option<Group> {
                match self {
                    $(Kind::$kind => optional!($(Group::$group)?),)*
                }
            }

            /// What `a` and `b` of its records are, where they are anything.
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
    /// Programs.
    Program "program";
    /// The idle loop.
    Idle "idle";
    /// Bring-up.
    Boot "boot";
    /// What programs report.
    User "user";
}

kinds! {
    /// A system call is entered.
    1 SyscallEnter syscall_enter [Syscall] number: Syscall "number", arg: Hex "first argument";
    /// A system call returns.
    2 SyscallExit syscall_exit [Syscall] number: Syscall "number", result: Result "result";
    /// Timer tick.
    3 Tick tick [Tick] ticks: Decimal "ticks so far", rip: Hex "interrupted RIP";
    /// Another interrupt.
    4 Interrupt interrupt [Interrupt] vector: Hex "vector", rip: Hex "interrupted RIP";
    /// This CPU sent an interprocessor interrupt. The vector may be [`IPI_INIT`](super::IPI_INIT),
    /// [`IPI_STARTUP`](super::IPI_STARTUP) or [`IPI_NMI`](super::IPI_NMI), the destination
    /// [`IPI_TO_OTHERS`](super::IPI_TO_OTHERS).
    5 IpiSent ipi_sent [Ipi] vector: Ipi "vector, or INIT, SIPI, NMI", to: Destination "APIC id, or all others";
    /// This CPU received an interprocessor interrupt.
    6 IpiReceived ipi_received [Ipi] vector: Hex "vector", rip: Hex "interrupted RIP";
    /// Non-maskable interrupt.
    7 Nmi nmi [Interrupt] nmis: Decimal "NMIs so far", rip: Hex "interrupted RIP";
    /// Exception in ring 3.
    8 Fault fault [Fault] vector: Exception "vector", rip: Hex "RIP";
    /// A program starts.
    9 ProgramStart program_start [Program] entry: Hex "entry address", stack: Hex "stack pointer";
    /// A program has ended.
    10 ProgramEnd program_end [Program] how: Ending "0 exited, 1 killed", code: Signed "exit code";
    /// The CPU halts until an interrupt comes.
    11 IdleIn idle_in [Idle];
    /// The CPU runs again.
    12 IdleOut idle_out [Idle];
    /// Bring-up: the slot's state is one of `ap_trampoline::slot_state`.
    13 ApState ap_state [Boot] apic_id: Decimal "APIC id", state: Slot "state of its slot";
    /// In a stream: so many records before this one were dropped.
    14 Dropped dropped [] records: Decimal "records dropped before this one";
    /// `SYS_TRACE`.
    15 User user [User] id: Decimal "id", value: Decimal "value";
}

/// How a number reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A count, an id or a code.
    Decimal,
    /// A number that may be negative.
    Signed,
    /// An address or a word that may be anything.
    Hex,
    /// A system call's number.
    Syscall,
    /// A system call's result: negative is an error number.
    Result,
    /// An exception's vector.
    Exception,
    /// What [`Kind::IpiSent`] calls a vector.
    Ipi,
    /// An APIC id, or all but the sender.
    Destination,
    /// How a program ended.
    Ending,
    /// A slot's state during bring-up.
    Slot,
}

/// One of a record's two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it is called.
    pub name: &'static str,
    /// How it reads.
    pub style: Style,
    /// What it is, in words.
    pub meaning: &'static str,
}

/// The fields of a row, of which there may be fewer than two.
const fn both(fields: &[Field]) -> [Option<Field>; 2] {
    match *fields {
        [] => [None, None],
        [a] => [Some(a), None],
        [a, b] => [Some(a), Some(b)],
        _ => panic!("a record has two numbers"),
    }
}

impl Kind {
    /// The kind's bit in a mask.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

impl Group {
    /// The bits of its kinds.
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

/// `trace=all`: every group.
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
            "the rows are in the order of the numbers, from 1 and without gaps"
        );
        kinds |= Kind::ALL[n].bit();
        n += 1;
    }
    assert!(n < u32::BITS as usize, "a mask has a bit for every kind");
    // Drops are recorded whenever there is a stream; nobody asks for them.
    assert!(all_groups() == kinds & !Kind::Dropped.bit(), "a kind without a group is never recorded");
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
            assert_ne!(mask, 0, "trace={word} switches nothing on");
        }
    }
}
