//! What each kind's two numbers are called and how they read: one table for all outputs.

use std::fmt;

use ap_trampoline::slot_state;
use kernel_abi::errno::Errno;
use kernel_abi::syscall;
use kernel_abi::trace::{IPI_INIT, IPI_NMI, IPI_STARTUP, IPI_TO_OTHERS, Kind, Record};

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
}

/// What `a` and `b` of a record are, where they are anything.
pub type Shape = [Option<Field>; 2];

const fn field(name: &'static str, style: Style) -> Option<Field> {
    Some(Field { name, style })
}

/// A kind that this tool does not know.
pub const UNKNOWN: Shape = [field("a", Style::Hex), field("b", Style::Hex)];

/// What a kind's numbers are.
pub const fn shape(kind: Kind) -> Shape {
    use Style::*;
    match kind {
        Kind::SyscallEnter => [field("number", Syscall), field("arg", Hex)],
        Kind::SyscallExit => [field("number", Syscall), field("result", Result)],
        Kind::Tick => [field("ticks", Decimal), field("rip", Hex)],
        Kind::Interrupt | Kind::IpiReceived => [field("vector", Hex), field("rip", Hex)],
        Kind::IpiSent => [field("vector", Ipi), field("to", Destination)],
        Kind::Nmi => [field("nmis", Decimal), field("rip", Hex)],
        Kind::Fault => [field("vector", Exception), field("rip", Hex)],
        Kind::ProgramStart => [field("entry", Hex), field("stack", Hex)],
        Kind::ProgramEnd => [field("how", Ending), field("code", Signed)],
        Kind::IdleIn | Kind::IdleOut => [None, None],
        Kind::ApState => [field("apic_id", Decimal), field("state", Slot)],
        Kind::Dropped => [field("records", Decimal), None],
        Kind::User => [field("id", Decimal), field("value", Decimal)],
    }
}

/// A system call's name; `None` for a number that has none.
pub const fn syscall_name(number: u64) -> Option<&'static str> {
    Some(match number {
        syscall::SYS_NULL => "SYS_NULL",
        syscall::SYS_WRITE_SERIAL => "SYS_WRITE_SERIAL",
        syscall::SYS_GET_TICKS => "SYS_GET_TICKS",
        syscall::SYS_EXIT => "SYS_EXIT",
        syscall::SYS_GET_CPU => "SYS_GET_CPU",
        syscall::SYS_CPU_COUNT => "SYS_CPU_COUNT",
        syscall::SYS_CLOCK_NS => "SYS_CLOCK_NS",
        syscall::SYS_TRACE => "SYS_TRACE",
        _ => return None,
    })
}

/// What a call of a number without a system call is called.
pub const NO_SYSCALL: &str = "no such call";

/// The CPU's exceptions, by vector (Intel SDM vol. 3, 6.15).
const EXCEPTIONS: [&str; 22] = [
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP", "#PF",
    "15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
];

/// States of a slot in bring-up.
const SLOTS: [(u32, &str); 5] = [
    (slot_state::VACANT, "vacant"),
    (slot_state::OFFERED, "offered"),
    (slot_state::CLAIMED, "claimed"),
    (slot_state::ONLINE, "online"),
    (slot_state::CLOSED, "closed"),
];

/// An event in words: what it is, and its numbers with their names.
pub struct Described<'a>(pub &'a Record);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Described(record) = *self;
        let kind = Kind::from_number(record.kind);
        match kind {
            Some(kind) => f.write_str(kind.name())?,
            None => write!(f, "kind_{}", record.kind)?,
        }
        for (field, value) in kind.map_or(UNKNOWN, shape).into_iter().zip([record.a, record.b]) {
            if let Some(field) = field {
                write!(f, " {}={}", field.name, Shown(field.style, value))?;
            }
        }
        Ok(())
    }
}

/// A number, to be shown in its style.
pub struct Shown(pub Style, pub u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(style, value) = *self;
        match style {
            Style::Decimal => write!(f, "{value}"),
            Style::Signed => write!(f, "{}", value.cast_signed()),
            Style::Hex => write!(f, "{value:#x}"),
            Style::Syscall => match syscall_name(value) {
                Some(name) => f.write_str(name),
                None => write!(f, "{value:#x} ({NO_SYSCALL})"),
            },
            Style::Result => match Errno::from_rax(value) {
                Some(Errno::Fault) => f.write_str("-EFAULT"),
                Some(Errno::Invalid) => f.write_str("-EINVAL"),
                Some(Errno::NoSys) => f.write_str("-ENOSYS"),
                None => write!(f, "{}", value.cast_signed()),
            },
            Style::Exception => match usize::try_from(value).ok().and_then(|n| EXCEPTIONS.get(n)) {
                Some(name) => f.write_str(name),
                None => write!(f, "{value}"),
            },
            Style::Ipi => match value {
                IPI_INIT => f.write_str("INIT"),
                IPI_NMI => f.write_str("NMI"),
                IPI_STARTUP..IPI_NMI => write!(f, "SIPI to page {:#x}", value - IPI_STARTUP),
                _ => write!(f, "{value:#x}"),
            },
            Style::Destination if value == IPI_TO_OTHERS => f.write_str("others"),
            Style::Destination => write!(f, "APIC id {value}"),
            Style::Ending => f.write_str(match value {
                0 => "exited",
                1 => "killed",
                _ => "?",
            }),
            Style::Slot => match SLOTS.iter().find(|(state, _)| u64::from(*state) == value) {
                Some((_, name)) => f.write_str(name),
                None => write!(f, "{value}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_call_of_the_abi_has_its_name() {
        // The table's used entries are its first ones; the design names eight.
        let named = (0..syscall::TABLE_LEN as u64).filter(|n| syscall_name(*n).is_some()).count();
        assert_eq!(named, 8);
        assert_eq!(syscall_name(syscall::SYS_TRACE), Some("SYS_TRACE"));
        assert_eq!(syscall_name(u64::MAX), None);
    }

    #[test]
    fn numbers_read_as_what_they_are() {
        for (style, value, text) in [
            (Style::Result, Errno::NoSys.to_rax(), "-ENOSYS"),
            (Style::Result, 12, "12"),
            (Style::Syscall, 99, "0x63 (no such call)"),
            (Style::Exception, 14, "#PF"),
            (Style::Exception, 200, "200"),
            (Style::Ipi, IPI_STARTUP + 8, "SIPI to page 0x8"),
            (Style::Ipi, IPI_NMI, "NMI"),
            (Style::Ipi, 0xf1, "0xf1"),
            (Style::Destination, IPI_TO_OTHERS, "others"),
            (Style::Slot, u64::from(slot_state::ONLINE), "online"),
        ] {
            assert_eq!(Shown(style, value).to_string(), text);
        }
    }
}
