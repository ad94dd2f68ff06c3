//! Formats the two numbers of a record, for all outputs. The table of kinds, `kernel_abi::trace::Kind`, defines their
//! meaning.

use std::fmt;

use ap_trampoline::slot_state;
use kernel_abi::errno::Errno;
use kernel_abi::syscall::Call;
use kernel_abi::trace::{Field, Style};
use kernel_abi::trace::{IPI_INIT, IPI_NMI, IPI_STARTUP, IPI_TO_OTHERS, Kind, Record};

/// The meanings of a record's `a` and `b`; `None` if the number is unused.
pub type Shape = [Option<Field>; 2];

/// The shape for kinds that this tool does not know.
pub const UNKNOWN: Shape = [
    Some(Field { name: "a", style: Style::Hex, meaning: "" }),
    Some(Field { name: "b", style: Style::Hex, meaning: "" }),
];

/// Returns the name of a system call, or `None` if no call has this number.
pub fn syscall_name(number: u64) -> Option<&'static str> {
    Call::from_number(number).map(Call::name)
}

/// The name for numbers without a system call.
pub const NO_SYSCALL: &str = "no such call";

/// Names of the CPU exceptions, by vector (Intel SDM vol. 3, 6.15).
const EXCEPTIONS: [&str; 22] = [
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP", "#PF",
    "15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
];

/// The states of an AP's slot during bring-up.
const SLOTS: [(u32, &str); 5] = [
    (slot_state::VACANT, "vacant"),
    (slot_state::OFFERED, "offered"),
    (slot_state::CLAIMED, "claimed"),
    (slot_state::ONLINE, "online"),
    (slot_state::CLOSED, "closed"),
];

/// Formats an event: its kind, and its numbers with their names.
pub struct Described<'a>(pub &'a Record);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Placed(self.0, None).fmt(f)
    }
}

/// Does the same as [`Described`], and names the code at the event's address.
pub struct Placed<'a>(pub &'a Record, pub Option<&'a str>);

impl fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Placed(record, place) = *self;
        let kind = Kind::from_number(record.kind);
        match kind {
            Some(kind) => f.write_str(kind.name())?,
            None => write!(f, "kind_{}", record.kind)?,
        }
        for (field, value) in kind.map_or(UNKNOWN, Kind::fields).into_iter().zip([record.a, record.b]) {
            if let Some(field) = field {
                write!(f, " {}={}", field.name, Shown(field.style, value))?;
                if let Some(place) = place.filter(|_| field.style == Style::Code) {
                    write!(f, " in {place}")?;
                }
            }
        }
        Ok(())
    }
}

/// A number that is formatted in its style.
pub struct Shown(pub Style, pub u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(style, value) = *self;
        match style {
            Style::Decimal => write!(f, "{value}"),
            Style::Signed => write!(f, "{}", value.cast_signed()),
            Style::Hex | Style::Code => write!(f, "{value:#x}"),
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
    use kernel_abi::syscall::{FREE, TABLE_LEN};

    use super::*;

    #[test]
    fn every_system_call_has_its_name() {
        for call in Call::ALL {
            assert_eq!(syscall_name(call.number()), Some(call.name()));
        }
        for number in [FREE.start, TABLE_LEN as u64, u64::MAX] {
            assert_eq!(syscall_name(number), None);
        }
    }

    #[test]
    fn numbers_are_formatted_by_their_style() {
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
